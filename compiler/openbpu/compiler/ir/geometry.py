"""Strides of dense, broadcast and moved tensors, and axes merged to the few that an engine sees."""

from __future__ import annotations

import math
from collections.abc import Sequence

Ints = tuple[int, ...]


def product(sizes: Sequence[int]) -> int:
    """Number of elements of axes of these sizes; 1 for none."""
    return math.prod(sizes)


def dense_strides(shape: Sequence[int]) -> Ints:
    """Element strides of a dense row-major tensor."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def broadcast_strides(shape: Sequence[int], target: Sequence[int]) -> Ints:
    """Element strides that read a tensor of `shape` as one of `target` (NumPy broadcasting)."""
    full = (1,) * (len(target) - len(shape)) + tuple(shape)
    return tuple(
        0 if f == 1 and t != 1 else s for f, t, s in zip(full, target, dense_strides(full), strict=True)
    )


def collapse(shape: Sequence[int], operands: Sequence[Ints]) -> tuple[Ints, tuple[Ints, ...]]:
    """Merge neighbouring axes that every operand walks as one; axes of length 1 go.

    `operands` are element strides, one per axis of `shape`. Returns new shape and strides, rank 1 at least.
    """
    dims: list[int] = []
    strides: list[list[int]] = [[] for _ in operands]
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        if dims and all(s[-1] == o[axis] * size for s, o in zip(strides, operands, strict=True)):
            dims[-1] *= size
            for s, o in zip(strides, operands, strict=True):
                s[-1] = o[axis]
            continue
        dims.append(size)
        for s, o in zip(strides, operands, strict=True):
            s.append(o[axis])
    if not dims:
        return (1,), tuple((1,) for _ in operands)
    return tuple(dims), tuple(tuple(s) for s in strides)


def around(shape: Sequence[int], axis: int) -> Ints:
    """[A, R, B]: what is in front of an axis, the axis, and what is behind it."""
    return product(shape[:axis]), shape[axis], product(shape[axis + 1 :])
