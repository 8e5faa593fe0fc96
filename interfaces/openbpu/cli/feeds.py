"""The `--input` options: from files, pictures and folders to one feed per run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from openbpu.cli.arguments import readable
from openbpu.cli.usage import WrongValue

if TYPE_CHECKING:
    import numpy.typing as npt

    from openbpu.quantization.samples import Changes, Input, Pixels, Sample
    from openbpu.runtime import Session

    Array = npt.NDArray[Any]


class Taker(Protocol):
    """What says whether a feed fits: a session, or what compares one."""

    def check(self, inputs: dict[str, Array], /) -> object:
        """Raise InputError for arrays that do not fit."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run takes. label: the file that it comes from · of: how many runs there are."""

    label: str
    of: int
    samples: dict[str, Sample]

    def read(self) -> dict[str, Array]:
        """Return the arrays by input; pictures are read now. Raises InputError for a file that is none."""
        return {name: sample.read() for name, sample in self.samples.items()}

    def read_for(self, session: Taker) -> dict[str, Array]:
        """As `read`; raises InputError, naming which of several runs, for arrays that do not fit."""
        from openbpu.arch.errors import InputError

        feed = self.read()
        try:
            session.check(feed)
        except InputError as error:
            if self.of == 1:
                raise
            raise InputError(f"{self.label}: {error}") from error
        return feed


def takers(session: Session) -> list[Input]:
    """Return the inputs of a program as readers of samples take them; codes where it takes codes."""
    from openbpu.quantization.samples import Input

    return [
        Input(i.name, i.shape, i.dtype.numpy, i.scale[0] if len(i.scale) == 1 else None, i.zero_point)
        for i in session.inputs
    ]


def runs(given: Sequence[str] | None, inputs: Sequence[Input], pixels: Pixels, changes: Changes) -> list[Run]:
    """Read the `--input` options of a model with these inputs: NAME=PATH, or PATH where that says enough.

    PATH is an array, an `.npz` by input names, a picture, or a folder; where it holds several samples there
    are as many runs, and an input with one sample has it in all of them. Raises InputError.
    """
    from openbpu.runtime.tensors import check_names

    found: dict[str, list[Sample]] = {}
    for text in given or ():
        new = _samples(text, inputs, pixels, changes)
        _check_once(new, found)
        found.update(new)
    check_names(list(found), [i.name for i in inputs])
    return _together(found)


def _together(found: dict[str, list[Sample]]) -> list[Run]:
    from openbpu.arch.errors import InputError, must

    counts = {name: len(samples) for name, samples in found.items()}
    total = max(counts.values(), default=1)
    if any(n not in {1, total} for n in counts.values()):
        fix = "give as many samples for each, or one"
        raise InputError(must("--input", "the number of samples", "the same for every input", counts, fix))
    first = next((samples for samples in found.values() if len(samples) == total), None)
    return [
        Run(
            first[n].label if first else "",
            total,
            {name: s[n if len(s) > 1 else 0] for name, s in found.items()},
        )
        for n in range(total)
    ]


def _samples(text: str, inputs: Sequence[Input], pixels: Pixels, changes: Changes) -> dict[str, list[Sample]]:
    name, equals, path = text.partition("=")
    if not (path if equals else text):
        fix = "write an array with numpy.save, or give a picture or a folder"
        raise WrongValue("NAME=FILE.npy", text, fix, option="--input")
    by_name = {i.name: i for i in inputs}
    named = bool(equals) and (name in by_name or not Path(text).exists())
    where = Path(path if named else text)
    if not where.is_dir():
        readable(where)
    if where.suffix.lower() == ".npz":
        return _npz(where, name if named else "", by_name)
    name = name if named else _only(list(by_name), text)
    return {name: _of_one(where, name, by_name, pixels, changes)}


def _of_one(
    path: Path, name: str, by_name: dict[str, Input], pixels: Pixels, changes: Changes
) -> list[Sample]:
    from openbpu.quantization.samples import read_samples
    from openbpu.runtime.tensors import check_names

    if name not in by_name:
        check_names([name], list(by_name))
    return read_samples(path, by_name[name], pixels, changes)


def _npz(path: Path, name: str, by_name: dict[str, Input]) -> dict[str, list[Sample]]:
    """Return the arrays of an `.npz` under their names; a single one for the input named, or the only one."""
    from openbpu.quantization.samples import read_numpy, stacked
    from openbpu.runtime.tensors import check_names

    read = read_numpy(path, list(by_name.values()))
    arrays = read if isinstance(read, dict) else {name: read}
    if name in arrays:
        arrays = {name: arrays[name]}
    elif len(arrays) == 1 and (name or len(by_name) == 1):
        arrays = {name or next(iter(by_name)): next(iter(arrays.values()))}
    if not set(arrays) <= set(by_name):
        check_names(list(arrays), list(by_name))
    return {key: stacked(path.stem, array, by_name[key]) for key, array in arrays.items()}


def _check_once(new: dict[str, list[Sample]], given: dict[str, list[Sample]]) -> None:
    from openbpu.arch.errors import InputError, must

    for name in new:
        if name in given:
            raise InputError(
                must("--input", f"input '{name}'", "given once", "twice", "leave one of them out")
            )


def _only(names: Sequence[str], text: str) -> str:
    from openbpu.arch.errors import InputError, must

    if len(names) == 1:
        return names[0]
    fix = f"the model has {len(names)} inputs: {', '.join(names)}"
    raise InputError(must("--input", "the option", "NAME=FILE.npy", f"'{text}'", fix))
