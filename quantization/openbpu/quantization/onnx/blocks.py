"""Constants of any size, a block of rows at a time: what is computed on the way stays in the cache."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch.arrays import Array
from openbpu.arch.dtypes import DType
from openbpu.arch.shapes import along

BLOCK = 1 << 18
"""Elements that are worked on at once."""


def magnitudes(array: Array, axis: int | None) -> npt.NDArray[np.float64]:
    """Return max|x| of an array: of shape () or one per entry of `axis`. NaN where one is seen."""
    others = tuple(i for i in range(array.ndim) if i != axis)
    if not array.size:
        return np.zeros(())
    top: npt.NDArray[np.float64] = array.max(axis=others).astype(np.float64)
    return np.asarray(np.maximum(top, -array.min(axis=others).astype(np.float64)))


def codes(array: Array, scale: Array, axis: int | None, dtype: DType) -> Array:
    """Return `array` quantized with a scale of shape () or one per entry of `axis`, zero point 0."""
    shape = along(axis, array.ndim)
    steps = np.broadcast_to(scale.reshape(shape), array.shape)
    if array.size <= BLOCK:
        return numerics.quantize(array, steps, 0, dtype)
    made = np.empty(array.shape, dtype.numpy)
    for rows in _blocks(array):
        made[rows] = numerics.quantize(array[rows], steps[rows], 0, dtype)
    return made


def _blocks(array: Array) -> Iterator[slice]:
    rows = max(1, BLOCK * len(array) // array.size)
    return (slice(start, start + rows) for start in range(0, len(array), rows))
