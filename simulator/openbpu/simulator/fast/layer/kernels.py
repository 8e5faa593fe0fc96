"""The end of every layer that accumulates: an int32 tile in scratch memory becomes rows of the output."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.language.lang import helper, int32, int64
from openbpu.simulator.fast.language.pointers import atomic_add, call, ld, p8, p16, p32, st
from openbpu.simulator.fast.layer.arguments import Out
from openbpu.simulator.fast.scratch import BYTES_AT

_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1


@helper
def finish(out: Out, tile: int, rows: int, groups: int, channels: int, params: int, y: int, r: int) -> None:
    """Requantize an int32 tile [rows][16·groups] into rows of y, with rows of r."""
    tmp = tile + BYTES_AT
    epilogue, consts, pitch, kind = out.epilogue, out.consts, out.y_pitch, out.y_kind
    if epilogue == 0:
        for row in range(rows):
            source, target = p32(tile + row * groups * 64), p32(y + row * pitch)
            for c in range(channels):
                st(target, c, ld(source, c))
        return
    table = out.table
    if table == 0:
        call(epilogue, (tile, rows, groups, params, channels, y, pitch, r, out.r_pitch, consts))
        return
    call(epilogue, (tile, rows, groups, params, channels, tmp, groups * 16, r, out.r_pitch, consts))
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
