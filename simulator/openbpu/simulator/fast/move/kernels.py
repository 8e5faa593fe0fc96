"""Bytes move, values do not change: Move, Pad, Concat, Gather, fills."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.language.blocks import copy_bytes, outer_offset
from openbpu.simulator.fast.language.lang import helper
from openbpu.simulator.fast.language.pointers import call, ld, p8, p16, p32, p64, st
from openbpu.simulator.fast.language.records import kernel
from openbpu.simulator.fast.move.arguments import Fill, Gather, Interleave, Move
from openbpu.simulator.fast.scratch import CHUNK

_PIECE = 4096


@kernel
def move(args: Move, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as every kernel
    """Units are the planes (last two axes) of `shape`."""
    x, y, size, rank = args.x, args.y, args.size, args.rank
    shape, x_strides, y_strides = args.shape, args.x_strides, args.y_strides
    for plane in range(lo, hi):
        from_x = x + outer_offset(plane, rank - 1, shape, x_strides) * size
        to_y = y + outer_offset(plane, rank - 1, shape, y_strides) * size
        _plane(from_x, to_y, size, rank, shape, x_strides, y_strides)


@helper
def _plane(x: int, y: int, size: int, rank: int, shape: Any, x_strides: Any, y_strides: Any) -> None:
    rows, columns = ld(shape, rank - 2), ld(shape, rank - 1)
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
    elif size == 8:
        for i in range(n):
            st(p64(y), i * y_step, ld(p64(x), i * x_step))
    else:
        for i in range(n):
            st(p32(y), i * y_step, ld(p32(x), i * x_step))


@kernel
def interleave(args: Interleave, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001
    """Units are chunks of pixels.

    The vector kernel writes whole groups of 64 pixels; the rest of the last chunk is done here.
    """
    x, plane, y = args.x, args.plane, args.y
    for unit in range(lo, hi):
        start = unit * CHUNK
        count = min(plane - start, CHUNK)
        whole = count // 64 * 64
        if whole > 0:
            call(args.code, (x + start, plane, y + 3 * start, whole))
        for i in range(start + whole, start + count):
            for c in range(3):
                st(p8(y), 3 * i + c, ld(p8(x), c * plane + i))


@kernel
def gather(args: Gather, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001
    """Units are the rows of y."""
    x, y, row_bytes = args.x, args.y, args.row_bytes
    rows, count, indices = args.rows, args.count, args.indices
    if row_bytes == 1:
        for unit in range(lo, hi):
            st(p8(y), unit, ld(p8(x), (unit // count) * rows + ld(indices, unit % count)))
        return
    for unit in range(lo, hi):
        source = (unit // count) * rows + ld(indices, unit % count)
        copy_bytes(y + unit * row_bytes, x + source * row_bytes, row_bytes)


@kernel
def fill(args: Fill, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001
    """Units are elements."""
    y, size, value = args.y, args.size, args.value
    if size == 1:
        for i in range(lo, hi):
            st(p8(y), i, value)
    elif size == 2:
        for i in range(lo, hi):
            st(p16(y), i, value)
    elif size == 8:
        for i in range(lo, hi):
            st(p64(y), i, value)
    else:
        for i in range(lo, hi):
            st(p32(y), i, value)
