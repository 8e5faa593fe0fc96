"""Folders of images: a folder per class, or one folder and a file of labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from openbpu.arch.errors import InputError, must
from openbpu.arch.files import read_bounded
from openbpu.evaluation.accuracy.data.data import Data
from openbpu.evaluation.accuracy.data.sample import Sample
from openbpu.quantization.samples import IMAGES

_SHOWN = 3
_MOST = 256 << 20
"""Bytes of a list of files or classes."""


def read_folder(folder: Path, labels: Path | None, classes: Path | None) -> Data:
    """Return the pictures below a folder.

    Folders in it are classes, numbered in the order of their names or as `classes` lists them; a file of
    `labels` names pictures and their classes instead. Pictures of one folder without either have no label.
    Raises InputError.
    """
    names = _listed(classes) if classes is not None else None
    if labels is not None:
        return _by_file(folder, labels, names)
    inside = sorted(p for p in _entries(folder) if not p.name.startswith("."))
    folders = [p for p in inside if p.is_dir()]
    loose = [p for p in inside if p.is_file() and p.suffix.lower() in IMAGES]
    if folders and loose:
        found = f"{len(folders)} folders and {len(loose)} images"
        fix = "a folder is a class: move the images into one"
        raise InputError(must(str(folder), "a folder of images", "of one kind", found, fix))
    if loose and names is None:
        return Data(folder, [Sample(p.name, path=p) for p in loose])
    return _by_folder(folder, folders, names)


def _by_folder(folder: Path, folders: list[Path], names: list[str] | None) -> Data:
    found = {p.name: list(_pictures(p)) for p in folders}
    found = {name: pictures for name, pictures in found.items() if pictures or (names and name in names)}
    if not found:
        kinds = ", ".join(IMAGES)
        raise InputError(must(str(folder), "the folder", f"one of {kinds} or of a folder per class", "empty"))
    known = names if names is not None else list(found)
    for name in found:
        if name not in known:
            fix = "add it to the file of --classes, or move the folder away"
            raise InputError(must(str(folder / name), "the folder", "one of the classes", f"'{name}'", fix))
    samples = [
        Sample(str(p.relative_to(folder)), known.index(name), p)
        for name, pictures in found.items()
        for p in pictures
    ]
    return Data(folder, samples, tuple(known), told=tuple(_remarks(known) if names is None else ()))


def _remarks(names: list[str]) -> Iterator[str]:
    """Say where labels are not the numbers that folders are named by: '10' sorts before '2'."""
    for label, name in enumerate(names):
        if name.isdecimal() and all(n.isdecimal() for n in names) and int(name) != label:
            yield (
                f"labels: folders are numbered in the order of their names, so '{name}' is class {label}; "
                "give --classes FILE, with a name per line, for another order"
            )
            return


def _by_file(folder: Path, labels: Path, names: list[str] | None) -> Data:
    given = dict(_labels(labels, names))
    missing = [name for name in given if not (folder / name).is_file()]
    if missing:
        shown = ", ".join(f"'{n}'" for n in missing[:_SHOWN])
        found = f"{len(missing)} missing of {len(given)}: {shown}"
        raise InputError(must(str(folder), "the images", f"those that {labels} names", found))
    samples = [Sample(name, label, folder / name) for name, label in given.items()]
    return Data(folder, samples, tuple(names or ()))


def _labels(path: Path, names: list[str] | None) -> Iterator[tuple[str, int]]:
    """Yield picture and label of every line, `PICTURE LABEL` or `PICTURE,LABEL`."""
    known = {name: n for n, name in enumerate(names or ())}
    seen: set[str] = set()
    for number, line in enumerate(_lines(path), start=1):
        name, label = _pair(line)
        where = f"{path}:{number}"
        if not name or not label:
            raise InputError(must(where, "the line", "an image and its label, 'a.png 3'", f"'{line}'"))
        if number == 1 and not label.isdecimal() and label not in known and not _is_image(name):
            continue  # the heads of a table
        if not label.isdecimal() and label not in known:
            fix = "name the classes with --classes FILE, in the order of their labels"
            raise InputError(must(where, "the label", "a whole number", f"'{label}'", fix))
        if name in seen:
            raise InputError(must(where, "an image", "named once", f"'{name}' again"))
        seen.add(name)
        yield name, known[label] if label in known else int(label)


def _pair(line: str) -> tuple[str, str]:
    mark = next((m for m in (",", "\t", " ") if m in line), " ")
    name, _, label = line.rpartition(mark)
    return name.strip().strip('"'), label.strip().strip('"')


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGES


def _listed(path: Path) -> list[str]:
    names = list(_lines(path))
    twice: Mapping[str, int] = {n: names.count(n) for n in names if names.count(n) > 1}
    if twice:
        raise InputError(must(str(path), "a class", "named once", f"'{next(iter(twice))}' again"))
    return names


def _lines(path: Path) -> list[str]:
    try:
        text = read_bounded(path, _MOST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(must(str(path), "the file", "a text in UTF-8", "something else")) from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(must(str(path), "the file", "a line for each", "empty"))
    return lines


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError as error:
        fix = "check its permissions"
        raise InputError(must(str(folder), "the folder", "readable", f"({error.strerror})", fix)) from error


def _pictures(folder: Path) -> Iterator[Path]:
    """Yield the images below a folder, in the order of their names."""
    yield from sorted(p for p in folder.rglob("*") if _is_image(p.name) and p.is_file())
