"""Tensors whose bytes lie inside another tensor: parts of a concat, slices."""

from __future__ import annotations

from dataclasses import dataclass

from openbpu.arch.program import Concat, Move
from openbpu.arch.shapes import Ints, collapse, dense_strides


@dataclass(frozen=True, slots=True)
class Subview:
    """The bytes of a tensor inside the memory of tensor `root`: rows of `row` bytes, `pitch` bytes apart, the
    first at byte `offset`.

    A tensor that is one contiguous block has one row, as long as itself (and pitch = row).
    """

    root: int
    offset: int
    row: int
    pitch: int

    def strides(self, shape: Ints, element: int) -> Ints | None:
        """Byte strides of the tensor seen as `shape`; None when a row ends inside an axis."""
        out = []
        for n, stride in zip(shape, dense_strides(shape, element), strict=True):
            if stride * n <= self.row or n == 1:
                out.append(stride)
            elif stride % self.row == 0:
                out.append(stride // self.row * self.pitch)
            else:
                return None
        return tuple(out)

    def within(self, outer: Subview, nbytes: int) -> Subview | None:
        """The composed subview, where the root (of `nbytes` bytes) is itself the subview `outer` of another
        tensor; None when rows would break.

        (offset 4, row 2, pitch 8) within (offset 10, row 8, pitch 20)  →  (offset 14, row 2, pitch 20)
        """
        if outer.row >= nbytes:
            return Subview(outer.root, outer.offset + self.offset, self.row, self.pitch)
        line, column = divmod(self.offset, outer.row)
        if self.row == self.pitch and column == 0 and self.row % outer.row == 0:
            return Subview(outer.root, outer.offset + line * outer.pitch, outer.row, outer.pitch)
        if self.pitch % outer.row or column + self.row > outer.row:
            return None
        start = outer.offset + line * outer.pitch + column
        pitch = self.pitch // outer.row * outer.pitch
        return Subview(outer.root, start, self.row, pitch)


def strided_rows(root: int, offset: int, row: int, pitch: int, count: int) -> Subview:
    """The subview of `count` rows: one block where they touch or there is only one."""
    if count == 1 or row == pitch:
        return Subview(root, offset, row * count, row * count)
    return Subview(root, offset, row, pitch)


def concat_subview(op: Concat, part: int, element: int, root: int) -> Subview:
    """The subview of the concat's output `root` that its input number `part` is; `element`: bytes of one."""
    width = sum(op.sizes)
    start = sum(op.sizes[:part])
    return strided_rows(root, start * element, op.sizes[part] * element, width * element, op.outer)


def slice_subview(op: Move, element: int, root: int) -> Subview | None:
    """The subview of the input `root` that the output of a Move is; None unless it is rows of it in order."""
    counts, (_, strides) = collapse(op.shape, (dense_strides(op.shape, 1), op.strides))
    if len(counts) > 2 or (counts and (strides[-1] != 1 or min(strides) < 1)):
        return None
    run = counts[-1] if counts else 1
    count, step = (counts[0], strides[0]) if len(counts) == 2 else (1, run)
    if step < run:
        return None
    return strided_rows(root, op.offset * element, run * element, step * element, count)
