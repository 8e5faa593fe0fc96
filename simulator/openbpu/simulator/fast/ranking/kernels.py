"""The first elements along an axis: TopK."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.language.lang import helper, int8, int16, int32, int64
from openbpu.simulator.fast.language.pointers import ld, p8, p16, p32, p64, st
from openbpu.simulator.fast.language.records import kernel
from openbpu.simulator.fast.ranking.plan import Ranked


@helper
def _code(x: int, kind: int, i: int) -> Any:
    if kind == 1:
        return int64(ld(p8(x), i))
    if kind == 2:
        return int64(ld(p16(x), i))
    return int64(ld(p32(x), i))


@helper
def _put(y: int, kind: int, i: int, value: Any) -> None:
    if kind == 1:
        st(p8(y), i, int8(value))
    elif kind == 2:
        st(p16(y), i, int16(value))
    elif kind == 4:
        st(p32(y), i, int32(value))
    else:
        st(p64(y), i, value)


@kernel
def ranked(args: Ranked, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as every kernel
    """Units are rows (a, b). Each result is the first, in order, of those behind the one before it."""
    length, inner, count, sign = args.length, args.inner, args.count, args.sign
    for unit in range(lo, hi):
        outer, column = unit // inner, unit % inner
        x, y = outer * length * inner + column, outer * count * inner + column
        last, place = int64(1) << 40, int64(-1)
        for k in range(count):
            best, at = -(int64(1) << 40), int64(0)
            for r in range(length):
                v = _code(args.x, args.x_kind, x + r * inner) * sign
                if (v < last or (v == last and r > place)) and v > best:
                    best, at = v, int64(r)
            last, place = best, at
            _put(args.y, args.y_kind, y + k * inner, at if args.indices else best * sign)
