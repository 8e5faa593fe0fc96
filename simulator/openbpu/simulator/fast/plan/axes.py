"""Walks over the axes of tensors."""

from __future__ import annotations

import numpy as np

Axis = tuple[int, ...]


def dense_strides(shape: Axis) -> Axis:
    """Return the element strides of a dense row-major tensor."""
    return tuple(int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))


def merge_axes(shape: Axis, *strides: Axis) -> tuple[list[int], list[list[int]]]:
    """Return the same walk with as few axes as possible:

    axes of size 1 go, axes that continue each other join.
    """
    sizes: list[int] = []
    merged: list[list[int]] = [[] for _ in strides]
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        here = [s[axis] for s in strides]
        if sizes and all(m[-1] == h * size for m, h in zip(merged, here, strict=True)):
            sizes[-1] *= size
            for m, h in zip(merged, here, strict=True):
                m[-1] = h
            continue
        sizes.append(size)
        for m, h in zip(merged, here, strict=True):
            m.append(h)
    if not sizes:
        return [1], [[1] for _ in strides]
    return sizes, merged
