"""From an int32 tile to the output: requantization (and residual) of 16 channels at a time.

    y = clamp(rhe((acc·mult + r·rmult + offset) / 2^shift) + zero)

"int": 64-bit integers, as numerics has it. "real": the same in float64, with every factor divided by 2^shift
(an exact change of exponent) and rounding by adding 1.5·2^52. layer/requant.py proves for each layer that
all sums that can reach the clamped range are below 2^53, so that no operation before the last rounds; a
layer without proof is "int".

epilogue(tile, rows, groups, params, channels, y, y_pitch, r, r_pitch, consts); pitches are in bytes.
params, per 16 channels, 64-bit each: mult[16], offset[16], rmult[16], shift[16] (int only).
consts, 64-bit each: lo − zero, hi − zero, zero (an integer).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from openbpu.simulator.fast.layer.arguments import LANES, PARAM_BYTES
from openbpu.simulator.fast.vector.loops import counted
from openbpu.simulator.fast.vector.types import (
    F64,
    I8,
    I16,
    I32,
    I64,
    PTR,
    at,
    const,
    external,
    function,
    load,
    splat,
    vec,
)

_MAGIC = 1.5 * 2.0**52
_KINDS = {1: I8, 2: I16}


def epilogue_name(real: bool, residual: int, out: int) -> str:
    """The symbol for a residual of 0 (none), 1 or 2 bytes and an output of 1 or 2 bytes."""
    return f"epilogue_{'real' if real else 'int'}_{residual}_{out}"


class _Epilogue:
    def __init__(self, module: Any, real: bool, residual: int, out: int, fused: bool) -> None:
        self.module, self.real, self.fused = module, real, fused
        self.residual, self.out = residual, out
        self.kind = vec(F64 if real else I64, LANES)
        arguments = [PTR, I64, I64, PTR, I64, PTR, I64, PTR, I64, PTR]
        self.f = function(module, epilogue_name(real, residual, out), arguments)
        self.builder = ir.IRBuilder(self.f.append_basic_block("entry"))
        self.temporary = self.builder.alloca(vec(_KINDS[out], LANES))

    def build(self) -> None:
        b = self.builder
        tile, rows, groups, params, channels, y, y_pitch, r, r_pitch, consts = self.f.args
        bounds = [splat(b, load(b, at(b, consts, i, I64), self.kind.element, 8), LANES) for i in range(3)]
        with counted(b, groups) as group:
            here = at(b, params, b.mul(group, const(I64, PARAM_BYTES)), I8)
            factors = [load(b, at(b, here, i * LANES, I64), self.kind, 8) for i in range(4)]
            first = b.mul(group, const(I64, LANES))
            left = b.sub(channels, first)
            whole = b.icmp_signed(">=", left, const(I64, LANES))
            with counted(b, rows) as row:
                block = b.add(b.mul(row, groups), group)
                acc = load(b, at(b, tile, b.mul(block, const(I64, LANES)), I32), vec(I32, LANES), 4)
                base = at(b, r, b.add(b.mul(row, r_pitch), b.mul(first, const(I64, self.residual))), I8)
                result = self._result(acc, factors, bounds, base)
                place = at(b, y, b.add(b.mul(row, y_pitch), b.mul(first, const(I64, self.out))), I8)
                self._store(result, place, whole, left)
        b.ret_void()

    def _result(self, acc: Any, factors: list[Any], bounds: list[Any], r: Any) -> Any:
        b, (mult, offset, rmult, shift), (low, high, zero) = self.builder, factors, bounds
        if self.real:
            total = self._multiply_add(b.sitofp(acc, self.kind), mult, offset)
        else:
            total = b.add(b.mul(b.sext(acc, self.kind), mult), offset)
        if self.residual:
            read = load(b, r, vec(_KINDS[self.residual], LANES))
            if self.real:
                wide = b.sitofp(b.sext(read, vec(I32, LANES)), self.kind)
                total = self._multiply_add(wide, rmult, total)
            else:
                total = b.add(total, b.mul(b.sext(read, self.kind), rmult))
        return self._round_real(total, low, high, zero) if self.real else self._round(total, shift, bounds)

    def _multiply_add(self, x: Any, factor: Any, term: Any) -> Any:
        b = self.builder
        if not self.fused:
            return b.fadd(b.fmul(x, factor), term)
        fma = external(self.module, f"llvm.fma.v{LANES}f64", self.kind, [self.kind] * 3)
        return b.call(fma, [x, factor, term])

    def _round_real(self, total: Any, low: Any, high: Any, zero: Any) -> Any:
        """Clamp, then round: rounding cannot cross bounds that are integers. The low bits are the result."""
        b = self.builder
        total = b.select(b.fcmp_ordered("<", total, high), total, high)
        total = b.select(b.fcmp_ordered(">", total, low), total, low)
        bits = b.bitcast(b.fadd(total, const(self.kind, _MAGIC)), vec(I64, LANES))
        as_int = b.bitcast(zero, vec(I64, LANES))
        return b.trunc(
            b.add(b.trunc(bits, vec(I32, LANES)), b.trunc(as_int, vec(I32, LANES))), self._stored()
        )

    def _round(self, total: Any, shift: Any, bounds: list[Any]) -> Any:
        """numerics.requantize: half − 1 + odd, and nothing when shift is 0."""
        b, one, nil = self.builder, const(self.kind, 1), const(self.kind, 0)
        low, high, zero = bounds
        any_shift = b.icmp_signed(">", shift, nil)
        less = b.select(any_shift, b.sub(shift, one), nil)
        half = b.select(any_shift, b.sub(b.shl(one, less), one), nil)
        odd = b.select(any_shift, b.and_(b.ashr(total, shift), one), nil)
        value = b.ashr(b.add(total, b.add(half, odd)), shift)
        value = b.select(b.icmp_signed("<", value, high), value, high)
        value = b.select(b.icmp_signed(">", value, low), value, low)
        return b.trunc(b.add(value, zero), self._stored())

    def _stored(self) -> Any:
        return vec(_KINDS[self.out], LANES)

    def _store(self, result: Any, place: Any, whole: Any, left: Any) -> None:
        """Store 16 channels, or the `left` ones that exist."""
        b = self.builder
        with b.if_else(whole) as (yes, no):
            with yes:
                b.store(result, place, align=1)
            with no:
                b.store(result, self.temporary)
                with counted(b, left) as i:
                    kind = _KINDS[self.out]
                    value = load(b, at(b, self.temporary, i, kind), kind)
                    b.store(value, at(b, place, i, kind), align=1)


def add_epilogues(module: Any, *, fused: bool) -> None:
    """Add the twelve epilogues; `fused` when the CPU has a fused multiply-add."""
    for real in (False, True):
        for residual in (0, 1, 2):
            for out in (1, 2):
                _Epilogue(module, real, residual, out, fused).build()
