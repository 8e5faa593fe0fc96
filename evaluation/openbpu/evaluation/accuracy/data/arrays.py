"""Arrays with labels: `.npz`, or `.npy` and a file of labels beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.evaluation.accuracy.data.data import Data
from openbpu.evaluation.accuracy.data.sample import Sample
from openbpu.quantization.samples import Input, read_numpy

LABELS = ("labels", "label", "y", "targets", "target")
"""What an array of labels is usually called."""

_ANY = Input("the data", None, np.dtype(np.float32))
_ALONE = "data"


class _Stacked(Sequence[Sample]):
    """The samples in arrays whose first axis counts them; none is copied before it is asked for."""

    def __init__(self, arrays: Mapping[str, Array], labels: Array | None) -> None:
        self._arrays, self._labels = arrays, labels
        self._count = len(next(iter(arrays.values())))
        self._width = len(str(self._count - 1))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, n: int) -> Sample: ...
    @overload
    def __getitem__(self, n: slice) -> list[Sample]: ...
    def __getitem__(self, n: int | slice) -> Sample | list[Sample]:
        if isinstance(n, slice):
            return [self[i] for i in range(*n.indices(self._count))]
        arrays = {name: array[n] for name, array in self._arrays.items()}
        return Sample(f"{n:0{self._width}}", self._label(n), arrays=arrays)

    def _label(self, n: int) -> Any:
        if self._labels is None:
            return None
        label = self._labels[n]
        return label.item() if label.size == 1 else label


def read_arrays(path: Path, labels: str, inputs: Sequence[str]) -> Data:
    """Return the samples in a file of arrays.

    labels: the name of their array, or a file that holds it; without, the one that is called so. Raises
    InputError where arrays differ in their number of samples or do not belong to the inputs of the model.
    """
    read = read_numpy(path, [_ANY])
    arrays = dict(read) if isinstance(read, dict) else {_ALONE: read}
    name, of = _labels(path, labels, arrays)
    data = {key: array for key, array in arrays.items() if key != name}
    _check_counts(path, data if of is None else data | {name or labels: of})
    return Data(path, _Stacked(data, of), inputs=_taken(path, data, inputs))


def _labels(path: Path, labels: str, arrays: Mapping[str, Array]) -> tuple[str, Array | None]:
    """Return the name of the array of labels, "" where it is in another file, and the array."""
    if labels in arrays:
        return labels, arrays[labels]
    if labels:
        other = Path(labels)
        if not other.is_file():
            allowed = f"an array of {path} ({', '.join(arrays)}) or a file"
            raise InputError(must("--labels", "the labels", allowed, f"'{labels}'"))
        found = read_numpy(other, [_ANY], what="the labels")
        if isinstance(found, dict):
            found = next(iter(found.values())) if len(found) == 1 else found[_only_labels(other, found)]
        return "", found
    name = next((n for n in arrays if n.casefold() in LABELS), "")
    return (name, arrays[name]) if name and len(arrays) > 1 else ("", None)


def _only_labels(path: Path, arrays: Mapping[str, Array]) -> str:
    name = next((n for n in arrays if n.casefold() in LABELS), None)
    if name is None:
        allowed = f"one of {', '.join(LABELS)}"
        raise InputError(must(str(path), "the array of labels", allowed, ", ".join(arrays)))
    return name


def _check_counts(path: Path, arrays: Mapping[str, Array]) -> None:
    if not arrays:
        raise InputError(must(str(path), "the arrays", "samples and labels", "labels alone"))
    flat = [name for name, array in arrays.items() if array.ndim == 0]
    if flat:
        fix = "its first axis counts samples"
        raise InputError(must(str(path), f"array '{flat[0]}'", "of one axis or more", "a single value", fix))
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{n} in '{name}'" for name, n in counts.items())
        raise InputError(must(str(path), "the number of samples", "the same in every array", found))


def _taken(path: Path, arrays: Mapping[str, Array], inputs: Sequence[str]) -> dict[str, str]:
    """Return the array of every input: by its name, or the only one for the only input."""
    if len(inputs) == len(arrays) == 1:
        return {inputs[0]: next(iter(arrays))}
    missing = [name for name in inputs if name not in arrays]
    if missing:
        fix = f"the model's inputs are {', '.join(inputs)}; name the array of labels with --labels"
        found = ", ".join(arrays)
        raise InputError(must(str(path), f"the array of input '{missing[0]}'", "in it", f"only {found}", fix))
    return {name: name for name in inputs}
