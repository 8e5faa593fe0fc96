"""Element-wise kernels for AVX-512 whose inputs and outputs are bytes.

add(a, b, params, y, count, consts)   y = table[clamp(rhe(a·mult + b·rmult + offset) + zero)]; factors as in
pack64 interleave3(x, pitch, y, count)       y[3·i + c] = x[c·pitch + i]: planes of an image become pixels
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from openbpu.simulator.fast.vector.loops import counted
from openbpu.simulator.fast.vector.pack64 import LANES, WIDTH, Pack64
from openbpu.simulator.fast.vector.types import (
    I8,
    I32,
    I64,
    PTR,
    at,
    const,
    function,
    load,
    shuffle,
    splat,
    vec,
)

_BYTES = vec(I8, WIDTH)


def _add(module: Any, *, table: bool) -> None:
    f = function(module, f"add64_{int(table)}", [PTR, PTR, PTR, PTR, I64, PTR])
    b = ir.IRBuilder(f.append_basic_block("entry"))
    x, other, params, y, count, consts = f.args
    pack = Pack64(module, b, consts, table=table)
    factors = pack.params(params, residual=True)
    lanes = ir.Constant(vec(I64, WIDTH), list(range(WIDTH)))
    with counted(b, count, WIDTH) as i:
        values = []
        for k in range(4):
            start = b.add(i, const(I64, k * LANES))
            acc = b.sext(load(b, at(b, x, start, I8), vec(I8, LANES)), vec(I32, LANES))
            r = load(b, at(b, other, start, I8), vec(I8, LANES))
            values.append(pack.integers(acc, factors, r))
        packed = pack.natural(pack.bytes(values))
        place, left = at(b, y, i, I8), b.sub(count, i)
        with b.if_else(b.icmp_signed(">=", left, const(I64, WIDTH))) as (yes, no):
            with yes:
                pack.store(packed, 0, WIDTH, place, None)
            with no:
                pack.store(packed, 0, WIDTH, place, b.icmp_signed("<", lanes, splat(b, left, WIDTH)))
    b.ret_void()


def _interleave3(module: Any) -> None:
    f = function(module, "interleave3", [PTR, I64, PTR, I64])
    b = ir.IRBuilder(f.append_basic_block("entry"))
    x, pitch, y, count = f.args
    with counted(b, count, WIDTH) as i:
        planes = [load(b, at(b, x, b.add(i, b.mul(pitch, const(I64, c))), I8), _BYTES) for c in range(3)]
        place = at(b, y, b.mul(i, const(I64, 3)), I8)
        for part in range(3):
            want = range(part * WIDTH, (part + 1) * WIDTH)
            two = [(k // 3) + (k % 3) * WIDTH if k % 3 < 2 else 0 for k in want]
            mixed = shuffle(b, planes[0], planes[1], two)
            three = [n if k % 3 < 2 else WIDTH + k // 3 for n, k in enumerate(want)]
            b.store(shuffle(b, mixed, planes[2], three), at(b, place, part * WIDTH, I8), align=1)
    b.ret_void()


def add_bytes64(module: Any, *, tables: bool) -> None:
    """Add the kernels; with fused tables where the CPU permutes bytes."""
    for table in (False, True) if tables else (False,):
        _add(module, table=table)
    _interleave3(module)
