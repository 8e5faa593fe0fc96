"""Tensors whose bytes lie inside another tensor: parts of a concat, slices."""

from __future__ import annotations

from dataclasses import dataclass

from openbpu.compiler.schedule.problem.index_maps import Ints
from openbpu.compiler.schedule.problem.strides import dense_strides


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of a tensor in the memory of `root`: `row` bytes at a time, `pitch` bytes apart, from `offset`
    on.

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

    def within(self, outer: Place, nbytes: int) -> Place | None:
        """This place, in a tensor of `nbytes` bytes that is itself at `outer`; None when its rows would
        break.

        (offset 4, row 2, pitch 8) within (offset 10, row 8, pitch 20)  →  (offset 14, row 2, pitch 20)
        """
        if outer.row >= nbytes:
            return Place(outer.root, outer.offset + self.offset, self.row, self.pitch)
        line, column = divmod(self.offset, outer.row)
        if self.row == self.pitch and column == 0 and self.row % outer.row == 0:
            return Place(outer.root, outer.offset + line * outer.pitch, outer.row, outer.pitch)
        if self.pitch % outer.row or column + self.row > outer.row:
            return None
        start = outer.offset + line * outer.pitch + column
        pitch = self.pitch // outer.row * outer.pitch
        return Place(outer.root, start, self.row, pitch)


def rows(root: int, offset: int, row: int, pitch: int, count: int) -> Place:
    """`count` rows as a place: one block where they touch or there is only one."""
    if count == 1 or row == pitch:
        return Place(root, offset, row * count, row * count)
    return Place(root, offset, row, pitch)
