"""The end of every layer that accumulates: an int32 tile in scratch memory becomes rows of the output.

Arguments that the kernels ending here share, from args[OUT] on: 0 epilogue (0: raw), 1 its constants, 2 y, 3
y pitch, 4 element size of y, 5 r, 6 r pitch, 7 table, 8 bytes of a pixel of y, 9 of r. A pitch is the
distance of the rows of a tile: that of pixels, or more when phases interleave.
"""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.kernels.lang import helper, int32, int64
from openbpu.simulator.fast.kernels.pointers import atomic_add, call, ld, p8, p16, p32, st

OUT = 14
WIDE_AT, BYTES_AT = 4096, 12288
"""In scratch memory, behind the int32 tile: the int64 tile, and the bytes before a table."""
_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1


@helper
def finish(out: Any, tile: int, rows: int, groups: int, channels: int, params: int, y: int, r: int) -> None:
    """Requantize an int32 tile [rows][16·groups] into rows of y; `out` points at the OUT arguments."""
    tmp = tile + BYTES_AT
    epilogue, consts, pitch, kind = ld(out, 0), ld(out, 1), ld(out, 3), ld(out, 4)
    if epilogue == 0:
        for row in range(rows):
            source, target = p32(tile + row * groups * 64), p32(y + row * pitch)
            for c in range(channels):
                st(target, c, ld(source, c))
        return
    table = ld(out, 7)
    if table == 0:
        call(epilogue, (tile, rows, groups, params, channels, y, pitch, r, ld(out, 6), consts))
        return
    call(epilogue, (tile, rows, groups, params, channels, tmp, groups * 16, r, ld(out, 6), consts))
    for row in range(rows):
        _look_up_row(y + row * pitch, kind, tmp + row * groups * 16, table, channels)


@helper
def _look_up_row(y: int, kind: int, x: int, table: int, n: int) -> None:
    if kind == 1:
        for c in range(n):
            st(p8(y), c, ld(p8(table), int64(ld(p8(x), c)) + 128))
    elif kind == 2:
        for c in range(n):
            st(p16(y), c, ld(p16(table), int64(ld(p8(x), c)) + 128))
    else:
        for c in range(n):
            st(p32(y), c, ld(p32(table), int64(ld(p8(x), c)) + 128))


@helper
def saturate(tile: Any, wide: Any, rows: int, pitch: int, channels: int, counter: Any) -> None:
    """Tile = sat32(wide), counting what did not fit."""
    count = int64(0)
    for row in range(rows):
        for c in range(channels):
            v = ld(wide, row * pitch + c)
            s = min(max(v, int64(_INT32_MIN)), int64(_INT32_MAX))
            count += int64(s != v)
            st(tile, row * pitch + c, int32(s))
    if count:
        atomic_add(counter, 0, count)
