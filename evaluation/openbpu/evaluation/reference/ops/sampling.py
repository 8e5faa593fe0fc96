"""GridSample: an image, or a volume, read at the points of a grid."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import TypeAlias

import numpy as np

from openbpu.evaluation.reference.kernel import Array, Call, kernel
from openbpu.evaluation.reference.ops.resize import keys_cubic

Taps: TypeAlias = list[tuple[Array, Array]]
"""Along one axis: indices, some of them outside, and their weights."""

_UNIT = 2.0**20
_MODES = {"linear": "linear", "bilinear": "linear", "bicubic": "cubic"}


def _positions(grid: Array, size: int, *, corners: bool) -> Array:
    """Coordinates of −1..1 as positions in elements."""
    return (grid + 1) / 2 * (size - 1) if corners else ((grid + 1) * size - 1) / 2


def _nearest(grid: Array, size: int, *, corners: bool) -> Array:
    """Of two that are equally near, to 2^-21 of an element, the even one.

    That is what float32 makes of a position half-way, whose coordinate is mostly no number of float32; what
    is that near to one is below the noise of float32 from eight elements on.
    """
    return np.rint(np.rint(_positions(grid, size, corners=corners) * _UNIT) / _UNIT)


def _reflected(at: Array, size: int, *, corners: bool) -> Array:
    """Back and forth between the outermost elements, or their edges."""
    low, high = (0.0, size - 1.0) if corners else (-0.5, size - 0.5)
    if high == low:
        return np.zeros_like(at)
    beyond = np.mod(at - low, 2 * (high - low))
    return low + np.minimum(beyond, 2 * (high - low) - beyond)


def _taps(at: Array, mode: str) -> Taps:
    if mode == "nearest":
        return [(at, np.ones_like(at))]
    base = np.floor(at)
    if mode == "linear":
        return [(base, base + 1 - at), (base + 1, at - base)]
    return [(base + i, keys_cubic(at - base - i, -0.75)) for i in (-1, 0, 1, 2)]


def _axis(call: Call, grid: Array, size: int, mode: str) -> Taps:
    """The taps along an axis by their elements: those outside moved inside, or of weight 0."""
    corners, padding = bool(call.attr("align_corners", 0)), call.attr("padding_mode", "zeros")
    find: Callable[..., Array] = _nearest if mode == "nearest" else _positions
    at = find(grid, size, corners=corners)
    if padding == "reflection" and mode != "cubic":
        at = _reflected(at, size, corners=corners)
    found: Taps = []
    for index, weight in _taps(at, mode):
        moved = _reflected(index, size, corners=corners) if padding == "reflection" else index
        inside = (moved >= 0) & (moved <= size - 1) | (padding != "zeros")
        found.append((np.clip(moved, 0, size - 1).astype(np.int64), np.where(inside, weight, 0.0)))
    return found


@kernel("GridSample")
def grid_sample(call: Call) -> Array:
    """X [N, C, …], grid [N, …, rank − 2] with the last axis of x first."""
    x, grid = call[0], call[1]
    mode = _MODES.get(call.attr("mode", "linear"), call.attr("mode"))
    if mode == "cubic" and call.attr("padding_mode") == "border":
        raise NotImplementedError("witness: ONNX and its Runtime differ in a cubic GridSample at the border")
    sizes = x.shape[2:]
    axes = [_axis(call, grid[..., len(sizes) - 1 - i], n, mode) for i, n in enumerate(sizes)]
    images = np.arange(len(x)).reshape(-1, *[1] * len(sizes))
    y = np.zeros((*grid.shape[:-1], x.shape[1]))
    for taps in product(*axes):
        weight = np.prod([w for _, w in taps], axis=0)
        y += weight[..., None] * np.moveaxis(x, 1, -1)[(images, *(i for i, _ in taps))]
    return np.moveaxis(y, -1, 1)
