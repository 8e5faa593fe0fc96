"""Sparse tensors of ONNX made dense: every reader of models asks here, so that all refuse the same ones."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import ModelError, must
from openbpu.arch.hbm.check import MAX_RANK

MAX_BYTES = 1 << 31
"""Bytes that all sparse tensors of one model may take when dense: a few bytes can stand for any number."""

_FIX = "store it as a dense tensor"


class DenseForms:
    """Makes the sparse tensors of one model dense, and counts what that takes."""

    def __init__(self) -> None:
        self._nbytes = 0

    def of(self, values: Array, indices: Array, dims: Iterable[int], where: str) -> Array:
        """Return the dense array of shape `dims`, read-only; indices are flat or one row per element (ONNX).

        Raises ModelError for what onnx's checker refuses too (indices out of range, out of order or twice),
        and where the model's dense forms take more than `MAX_BYTES`.
        """
        shape = tuple(dims)
        if len(shape) > MAX_RANK or any(dim < 0 for dim in shape):
            allowed = f"at most {MAX_RANK} numbers of 0 or more"
            raise ModelError(must(where, "its shape", allowed, f"{shape[: MAX_RANK + 1]}", _FIX))
        self._nbytes += math.prod(shape) * values.itemsize
        if values.dtype.hasobject or self._nbytes > MAX_BYTES:
            found = f"{values.dtype}{list(shape)}"
            raise ModelError(must(where, "its dense form", "numbers of at most 2 GiB", found, _FIX))
        flat = _flat_indices(values, indices, shape, where)
        dense = np.zeros(math.prod(shape), values.dtype)
        dense[flat] = values
        dense.flags.writeable = False
        return dense.reshape(shape)


def _flat_indices(values: Array, indices: Array, shape: tuple[int, ...], where: str) -> Array:
    """Return where the values of a sparse tensor stand in the flattened dense one."""
    count = values.size
    if values.ndim != 1 or indices.dtype != np.int64 or indices.shape not in {(count,), (count, len(shape))}:
        allowed = f"int64 of shape ({count},) or ({count}, {len(shape)}) for as many values"
        found = f"{indices.dtype.name}{list(indices.shape)} for values of shape {values.shape}"
        raise ModelError(must(where, "indices", allowed, found, _FIX))
    limits = shape if indices.ndim == 2 else (math.prod(shape),)
    columns = indices.reshape(count, len(limits))
    outside = np.flatnonzero(((columns < 0) | (columns >= np.array(limits, np.int64))).any(axis=1))
    if outside.size:
        found = f"{columns[outside[0]].tolist()} (element {outside[0]})"
        raise ModelError(must(where, "indices", f"inside the shape {shape}", found, _FIX))
    strides = [math.prod(limits[axis + 1 :]) for axis in range(len(limits))]
    flat: Array = columns @ np.array(strides, np.int64)
    if (np.diff(flat) <= 0).any():
        raise ModelError(must(where, "indices", "in rising order, each once", "otherwise", _FIX))
    return flat
