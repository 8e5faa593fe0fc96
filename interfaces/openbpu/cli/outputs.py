"""Output files: arrays by name, and the care that nothing is overwritten by a slip."""

from __future__ import annotations

import io
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_MAX_NAME = 120
"""Bytes of a file name without its suffix: most file systems take 255."""
_RESERVED = re.compile(r"con|prn|aux|nul|com\d|lpt\d", re.IGNORECASE)


def check_file(path: Path) -> None:
    """Raise InputError for a file that could not be written later, before anything is computed for it."""
    from openbpu.arch.errors import InputError, must
    from openbpu.arch.files import check_target

    try:
        check_target(path)
    except (OSError, ValueError) as error:  # ValueError: a null byte
        reason = getattr(error, "strerror", None) or error
        fix = "choose another path"
        raise InputError(must(str(path), "the output", "writable", f"({reason})", fix)) from error


def check_page(page: Path, *others: Path) -> None:
    """As `check_file`, and refuse a page in the place of another file of the command."""
    from openbpu.cli.usage import WrongValue

    if any(page.resolve() == other.resolve() for other in others):
        raise WrongValue("a file of its own", str(page), "choose another path", option="--page")
    check_file(page)


def check_folder(folder: Path) -> None:
    """Make the folder that outputs go to; raises OSError or InputError when nothing can be written there."""
    folder.mkdir(parents=True, exist_ok=True)
    check_file(folder / "output.npy")


def write_arrays(folder: Path, arrays: Mapping[str, Array]) -> dict[str, Path]:
    """Write every array as NAME.npy into a folder that exists, each file whole or not at all.

    Returns the paths by name.
    """
    paths = {name: folder / f"{stem}.npy" for name, stem in file_stems(list(arrays)).items()}
    for name, array in arrays.items():
        write_array(paths[name], array)
    return paths


def write_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Write an array as .npy, whole or not at all."""
    import numpy as np

    from openbpu.arch.files import write_atomic

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomic(path, [buffer.getbuffer()])


def file_stems(names: Sequence[str]) -> dict[str, str]:
    """Return a file name for every tensor name: what no file system likes becomes `_`, twins get a number.

    Letters of any script stay; `con`, `nul` and the like, which Windows keeps for devices, get a `_`.
    """
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        stem = _stem(name)
        unique, n = stem, 1
        while unique.casefold() in taken:
            unique, n = f"{stem}_{n}", n + 1
        taken.add(unique.casefold())
        stems[name] = unique
    return stems


def _stem(name: str) -> str:
    composed = unicodedata.normalize("NFC", name)  # as some file systems do by themselves
    safe = "".join(c if _is_plain(c) else "_" for c in composed).lstrip(".")
    short = safe.encode()[:_MAX_NAME].decode(errors="ignore").rstrip(".") or "output"
    return f"_{short}" if _RESERVED.fullmatch(short.partition(".")[0]) else short


def _is_plain(c: str) -> bool:
    if c.isascii():
        return c.isalnum() or c in "._-"
    return c.isprintable() and bool(c.encode(sys.getfilesystemencoding(), errors="ignore"))


def refuse_overwriting(source: Path, out: Path, option: str = "--output") -> None:
    """Raise InputError when the output is the input itself, or a file of its weights: a slip of the shell
    must not cost the model.
    """
    from openbpu.arch.errors import InputError, must

    if not source.exists() or not out.exists():
        return
    if source.samefile(out):
        raise InputError(must(option, "the path", "another file than the model", f"'{out}'"))
    if any(data.exists() and data.samefile(out) for data in _weights_of(source)):
        raise InputError(must(option, "the path", "another file than the model's weights", f"'{out}'"))


def _weights_of(source: Path) -> list[Path]:
    """Return the files that an ONNX model keeps weights in; none for what is no such model."""
    from openbpu.arch.errors import ModelError
    from openbpu.quantization.save import data_files

    try:
        return data_files(source)
    except (OSError, ModelError):
        return []
