"""Bytes move, values do not change: Move, Pad, Concat, Gather, fills."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.kernels.blocks import copy_bytes
from openbpu.simulator.fast.kernels.elementwise import outer_offset
from openbpu.simulator.fast.kernels.lang import helper
from openbpu.simulator.fast.kernels.pointers import KERNEL, call, ld, p8, p16, p32, p64, st

_PIECE = 4096


def move(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - every kernel has this signature
    """Units are the planes (last two axes) of `shape`; rank >= 2.

    args: x, y, element size, rank, shape, x_strides, y_strides. Strides count elements; x and y are the
    addresses of the elements at index 0.
    """
    x, y, size, rank = ld(args, 0), ld(args, 1), ld(args, 2), ld(args, 3)
    shape, x_strides, y_strides = p64(ld(args, 4)), p64(ld(args, 5)), p64(ld(args, 6))
    for plane in range(lo, hi):
        from_x = x + outer_offset(plane, rank - 1, shape, x_strides) * size
        to_y = y + outer_offset(plane, rank - 1, shape, y_strides) * size
        _plane(from_x, to_y, size, p64(ld(args, 4) + (rank - 2) * 8), rank, x_strides, y_strides)


@helper
def _plane(x: int, y: int, size: int, shape: Any, rank: int, x_strides: Any, y_strides: Any) -> None:
    rows, columns = ld(shape, 0), ld(shape, 1)
    x_row, x_step = ld(x_strides, rank - 2), ld(x_strides, rank - 1)
    y_row, y_step = ld(y_strides, rank - 2), ld(y_strides, rank - 1)
    if x_step == 1 and y_step == 1:
        for row in range(rows):
            copy_bytes(y + row * y_row * size, x + row * x_row * size, columns * size)
        return
    # The longer walk through contiguous memory is the inner loop, in pieces that stay in the cache.
    if abs(x_row) + abs(y_row) < abs(x_step) + abs(y_step):
        for first in range(0, rows, _PIECE):
            count = min(_PIECE, rows - first)
            for i in range(columns):
                at_x, at_y = first * x_row + i * x_step, first * y_row + i * y_step
                _strided(x + at_x * size, y + at_y * size, size, count, x_row, y_row)
        return
    for row in range(rows):
        _strided(x + row * x_row * size, y + row * y_row * size, size, columns, x_step, y_step)


@helper
def _strided(x: int, y: int, size: int, n: int, x_step: int, y_step: int) -> None:
    if size == 1:
        for i in range(n):
            st(p8(y), i * y_step, ld(p8(x), i * x_step))
    elif size == 2:
        for i in range(n):
            st(p16(y), i * y_step, ld(p16(x), i * x_step))
    else:
        for i in range(n):
            st(p32(y), i * y_step, ld(p32(x), i * x_step))


def interleave(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001
    """Three planes of bytes become pixels. Units are chunks of 4096 pixels. args: kernel, x, plane size, y.

    The vector kernel writes whole groups of 64 pixels; the rest of the last chunk is done here.
    """
    x, pitch, y = ld(args, 1), ld(args, 2), ld(args, 3)
    for unit in range(lo, hi):
        start = unit * 4096
        count = min(pitch - start, 4096)
        whole = count // 64 * 64
        if whole > 0:
            call(ld(args, 0), (x + start, pitch, y + 3 * start, whole))
        for i in range(start + whole, start + count):
            for c in range(3):
                st(p8(y), 3 * i + c, ld(p8(x), c * pitch + i))


def gather(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001
    """Units are the rows of y [A,I,·]. args: x, y, bytes of a row, R, I, indices."""
    x, y, row_bytes = ld(args, 0), ld(args, 1), ld(args, 2)
    rows, count, indices = ld(args, 3), ld(args, 4), p32(ld(args, 5))
    if row_bytes == 1:
        for unit in range(lo, hi):
            st(p8(y), unit, ld(p8(x), (unit // count) * rows + ld(indices, unit % count)))
        return
    for unit in range(lo, hi):
        source = (unit // count) * rows + ld(indices, unit % count)
        copy_bytes(y + unit * row_bytes, x + source * row_bytes, row_bytes)


def fill(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001
    """Units are elements. args: y, element size, value."""
    y, size, value = ld(args, 0), ld(args, 1), ld(args, 2)
    if size == 1:
        for i in range(lo, hi):
            st(p8(y), i, value)
    elif size == 2:
        for i in range(lo, hi):
            st(p16(y), i, value)
    else:
        for i in range(lo, hi):
            st(p32(y), i, value)


KERNELS = {
    "move": (move, KERNEL),
    "interleave": (interleave, KERNEL),
    "gather": (gather, KERNEL),
    "fill": (fill, KERNEL),
}
