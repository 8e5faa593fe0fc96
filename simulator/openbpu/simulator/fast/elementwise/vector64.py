"""Element-wise kernels for AVX-512 whose inputs and outputs are bytes.

add(a, b, params, y, count, consts)   y = table[clamp(rhe(a·mult + b·rmult + offset) + zero)]
mul(a, b, params, y, count, consts)   y = table[clamp(rhe((a − a_zero)·(b − b_zero)·mult + offset) + zero)]
lut(x, y, count, consts)              y = table[x]

Factors and constants as in `layer.vector_pack`; mul finds a_zero and b_zero behind them, int64 at byte 24.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from openbpu.simulator.fast.layer.arguments import LANES
from openbpu.simulator.fast.layer.vector_pack import WIDTH, Pack64
from openbpu.simulator.fast.vector.loops import counted
from openbpu.simulator.fast.vector.types import (
    I8,
    I32,
    I64,
    PTR,
    at,
    const,
    function,
    load,
    splat,
    vec,
)

_BYTES = vec(I8, WIDTH)


class _Bytes:
    """A loop over 64 elements at a time, the last ones masked."""

    def __init__(self, module: Any, name: str, inputs: int, *, table: bool) -> None:
        pointers = [PTR] * inputs
        self.f = function(module, name, [*pointers, PTR, I64, PTR])
        self.b = ir.IRBuilder(self.f.append_basic_block("entry"))
        self.y, self.count, self.consts = self.f.args[inputs:]
        self.pack = Pack64(module, self.b, self.consts, table=table)

    def build(self, element: Callable[[Any], Any]) -> None:
        """Store element(i), the bytes i..i+63 of the result."""
        b = self.b
        lanes = ir.Constant(vec(I64, WIDTH), list(range(WIDTH)))
        with counted(b, self.count, WIDTH) as i:
            packed = element(i)
            place, left = at(b, self.y, i, I8), b.sub(self.count, i)
            with b.if_else(b.icmp_signed(">=", left, const(I64, WIDTH))) as (yes, no):
                with yes:
                    self.pack.store(packed, 0, WIDTH, place, None)
                with no:
                    mask = b.icmp_signed("<", lanes, splat(b, left, WIDTH))
                    self.pack.store(packed, 0, WIDTH, place, mask)
        b.ret_void()

    def sixteen(self, pointer: Any, start: Any, part: int) -> Any:
        """16 int8 from start + 16·part on."""
        return load(
            self.b, at(self.b, pointer, self.b.add(start, const(I64, part * LANES)), I8), vec(I8, LANES)
        )


def _add(module: Any, *, table: bool) -> None:
    made = _Bytes(module, f"add64_{int(table)}", 3, table=table)
    left, right, params = made.f.args[:3]
    factors = made.pack.params(params, residual=True)

    def element(i: Any) -> Any:
        values = []
        for k in range(4):
            acc = made.b.sext(made.sixteen(left, i, k), vec(I32, LANES))
            values.append(made.pack.integers(acc, factors, made.sixteen(right, i, k)))
        return made.pack.natural(made.pack.bytes(values))

    made.build(element)


def _mul(module: Any, *, table: bool) -> None:
    made = _Bytes(module, f"mul64_{int(table)}", 3, table=table)
    b, (left, right, params) = made.b, made.f.args[:3]
    factors = made.pack.params(params, residual=False)
    wide = vec(I32, LANES)
    zeros = [splat(b, b.trunc(load(b, at(b, made.consts, i, I64), I64), I32), LANES) for i in (3, 4)]

    def element(i: Any) -> Any:
        values = []
        for k in range(4):
            terms = [
                b.sub(b.sext(made.sixteen(x, i, k), wide), zero)
                for x, zero in zip((left, right), zeros, strict=True)
            ]
            values.append(made.pack.integers(b.mul(*terms), factors))
        return made.pack.natural(made.pack.bytes(values))

    made.build(element)


def _lut(module: Any) -> None:
    made = _Bytes(module, "lut64", 1, table=True)
    x = made.f.args[0]
    made.build(lambda i: made.pack.look_up(load(made.b, at(made.b, x, i, I8), _BYTES)))


def add_bytes64(module: Any, *, tables: bool) -> None:
    """Add the kernels; with fused tables where the CPU permutes bytes."""
    for table in (False, True) if tables else (False,):
        _add(module, table=table)
        _mul(module, table=table)
    if tables:
        _lut(module)
