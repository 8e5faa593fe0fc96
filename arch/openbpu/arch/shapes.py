"""Strides of dense and broadcast tensors, axes merged to the few that an engine sees, a vector along an axis.

The one definition for the compiler, which writes strides, the simulator, which walks them, and everybody who
scales along an axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Ints = tuple[int, ...]


def dense_strides(shape: Sequence[int], element: int = 1) -> Ints:
    """Return the strides of a dense row-major tensor, in elements, or in bytes where one takes `element`."""
    strides, step = [], element
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def broadcast_strides(shape: Sequence[int], target: Sequence[int]) -> Ints:
    """Return element strides that read a tensor of `shape` as one of `target` (NumPy broadcasting)."""
    full = (1,) * (len(target) - len(shape)) + tuple(shape)
    return tuple(
        0 if f == 1 and t != 1 else s for f, t, s in zip(full, target, dense_strides(full), strict=True)
    )


def collapse(
    shape: Sequence[int], operands: Sequence[Sequence[int]], *, least: int = 0
) -> tuple[Ints, tuple[Ints, ...]]:
    """Merge neighbouring axes that every operand walks as one: the same elements in the same order.

    `operands` are strides, one per axis of `shape`. Axes of length 1 go; where fewer than `least` are left,
    axes of length 1 and stride 1 stand in front.

    (2, 1, 3, 4), ((12, 12, 4, 1), (24, 9, 8, 2))  →  (24,), ((1,), (2,))
    """
    sizes: list[int] = []
    strides: list[list[int]] = [[] for _ in operands]
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        if sizes and all(s[-1] == o[axis] * size for s, o in zip(strides, operands, strict=True)):
            sizes[-1] *= size
            for s, o in zip(strides, operands, strict=True):
                s[-1] = o[axis]
            continue
        sizes.append(size)
        for s, o in zip(strides, operands, strict=True):
            s.append(o[axis])
    front = (1,) * (least - len(sizes))
    return front + tuple(sizes), tuple(front + tuple(s) for s in strides)


def along(axis: int | None, rank: int) -> Ints:
    """Return the shape in which a vector lies along `axis` of `rank` axes; None is for a single value."""
    sizes = [1] * rank
    if axis is not None:
        sizes[axis] = -1
    return tuple(sizes)


def around(shape: Sequence[int], axis: int) -> Ints:
    """Return [A, R, B]: what is in front of an axis, the axis, and what is behind it."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def same_pads(
    inside: Sequence[int],
    outside: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    *,
    upper: bool,
) -> Ints:
    """Return ONNX's auto_pad SAME as pads, all begins and then all ends, of a window over `inside` elements.

    What is odd of them goes to the end (SAME_UPPER) or, not `upper`, to the front.
    """
    begins, ends = [], []
    for size, out, k, step, gap in zip(inside, outside, kernel, strides, dilations, strict=True):
        total = max((out - 1) * step + (k - 1) * gap + 1 - size, 0)
        less, more = total // 2, total - total // 2
        begins.append(less if upper else more)
        ends.append(more if upper else less)
    return (*begins, *ends)
