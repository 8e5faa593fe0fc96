"""Planes of bytes become pixels, 64 at a time, for AVX-512: y[3·i + c] = x[c·pitch + i]."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from openbpu.simulator.fast.vector.loops import counted
from openbpu.simulator.fast.vector.types import I8, I64, PTR, at, const, function, load, shuffle, vec

_WIDTH = 64
_BYTES = vec(I8, _WIDTH)


def add_interleave(module: Any) -> None:
    """Add interleave3(x, pitch, y, count)."""
    f = function(module, "interleave3", [PTR, I64, PTR, I64])
    b = ir.IRBuilder(f.append_basic_block("entry"))
    x, pitch, y, count = f.args
    with counted(b, count, _WIDTH) as i:
        planes = [load(b, at(b, x, b.add(i, b.mul(pitch, const(I64, c))), I8), _BYTES) for c in range(3)]
        place = at(b, y, b.mul(i, const(I64, 3)), I8)
        for part in range(3):
            want = range(part * _WIDTH, (part + 1) * _WIDTH)
            two = [(k // 3) + (k % 3) * _WIDTH if k % 3 < 2 else 0 for k in want]
            mixed = shuffle(b, planes[0], planes[1], two)
            three = [n if k % 3 < 2 else _WIDTH + k // 3 for n, k in enumerate(want)]
            b.store(shuffle(b, mixed, planes[2], three), at(b, place, part * _WIDTH, I8), align=1)
    b.ret_void()
