"""64 results at a time for AVX-512: four registers of int32 accumulators become one of int8.

    y = table[clamp(rhe(acc·mult + r·rmult + offset) + zero)]        factors already divided by 2^shift

In float64, as `epilogue` "real". The clamp comes last: |sum| is known to be below 2^31, so its integer is
the low half of sum + 1.5·2^52; packing saturates to int16, `zero` is added there, packing again saturates to
int8. Packing works within 128-bit lanes: of four registers in, every lane of the result holds 4 channels of
each.

consts: int64 zero, lo, hi; at byte 64 the table, ordered by the byte of y (so −128..−1 come last).
params of a register: mult[16], offset[16], rmult[16] float64.
"""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.layer.arguments import LANES, TABLE_AT
from openbpu.simulator.fast.vector.types import (
    F64,
    I1,
    I8,
    I16,
    I32,
    I64,
    VOID,
    at,
    const,
    external,
    load,
    shuffle,
    splat,
    vec,
)

WIDTH = 64
_MAGIC = 1.5 * 2.0**52
_BYTES = vec(I8, WIDTH)
_WORDS = vec(I16, WIDTH // 2)
_DOUBLES = vec(F64, LANES // 2)


class Pack64:
    """Builds the requantization inside one function; the constants are loaded where it is made."""

    def __init__(self, module: Any, builder: Any, consts: Any, *, table: bool) -> None:
        self.module, self.b = module, builder
        b = builder
        zero, low, high = (load(b, at(b, consts, i, I64), I64, 8) for i in range(3))
        self.zero = splat(b, b.trunc(zero, I16), WIDTH // 2)
        self.low, self.high = (splat(b, b.trunc(v, I8), WIDTH) for v in (low, high))
        self.table = (
            [load(b, at(b, consts, TABLE_AT + 64 * i, I8), _BYTES) for i in range(4)] if table else []
        )
        double = [_DOUBLES, _DOUBLES, _DOUBLES]
        self.fma = external(module, "llvm.fma.v8f64", _DOUBLES, double)

    def params(self, pointer: Any, *, residual: bool) -> list[list[Any]]:
        """Load the factors of one register: pairs of halves of mult, offset and rmult."""
        kinds = 3 if residual else 2
        return [
            [load(self.b, at(self.b, pointer, (i * 2 + half) * 8, F64), _DOUBLES, 8) for half in range(2)]
            for i in range(kinds)
        ]

    def integers(self, acc: Any, params: list[list[Any]], r: Any = None) -> Any:
        """Return the rounded sums of one register as int32, before zero and clamp; r is 16 int8."""
        b = self.b
        halves = []
        for half in range(2):
            mult, offset = params[0][half], params[1][half]
            total = b.call(self.fma, [self._double(acc, half), mult, offset])
            if r is not None:
                wide = b.sext(r, vec(I32, LANES))
                total = b.call(self.fma, [self._double(wide, half), params[2][half], total])
            halves.append(b.bitcast(b.fadd(total, const(_DOUBLES, _MAGIC)), vec(I32, LANES)))
        return shuffle(b, halves[0], halves[1], list(range(0, 2 * LANES, 2)))

    def _double(self, acc: Any, half: int) -> Any:
        lanes = list(range(half * 8, half * 8 + 8))
        return self.b.sitofp(shuffle(self.b, acc, acc, lanes), _DOUBLES)

    def bytes(self, values: list[Any]) -> Any:
        """Return int8 of four registers, 4 of each in every 128-bit lane."""
        b = self.b
        narrow = external(self.module, "llvm.x86.avx512.packssdw.512", _WORDS, [vec(I32, LANES)] * 2)
        narrower = external(self.module, "llvm.x86.avx512.packsswb.512", _BYTES, [_WORDS] * 2)
        add = external(self.module, "llvm.sadd.sat.v32i16", _WORDS, [_WORDS] * 2)
        words = [b.call(add, [b.call(narrow, values[i : i + 2]), self.zero]) for i in (0, 2)]
        packed = b.call(narrower, words)
        least = external(self.module, "llvm.smin.v64i8", _BYTES, [_BYTES] * 2)
        most = external(self.module, "llvm.smax.v64i8", _BYTES, [_BYTES] * 2)
        return self.look_up(b.call(least, [b.call(most, [packed, self.low]), self.high]))

    def look_up(self, index: Any) -> Any:
        """Return table[index] for 64 int8, the indices themselves when there is no table."""
        if not self.table:
            return index
        b = self.b
        permute = external(self.module, "llvm.x86.avx512.vpermi2var.qi.512", _BYTES, [_BYTES] * 3)
        first, second, third, fourth = self.table
        positive = b.call(permute, [first, index, second])
        negative = b.call(permute, [third, index, fourth])
        return b.select(b.icmp_signed("<", index, const(_BYTES, 0)), negative, positive)

    def natural(self, packed: Any) -> Any:
        """Undo the order of `bytes`: 16 results of the first register, then 16 of the second, and so on."""
        words = self.b.bitcast(packed, vec(I32, LANES))
        order = [lane * 4 + register for register in range(4) for lane in range(4)]
        return self.b.bitcast(shuffle(self.b, words, words, order), _BYTES)

    def store(self, packed: Any, first: int, count: int, place: Any, mask: Any) -> None:
        """Store `count` of the 64 bytes from `first` on, those that `mask` allows (None: all)."""
        b = self.b
        part = packed if count == WIDTH else shuffle(b, packed, packed, list(range(first, first + count)))
        if mask is None:
            b.store(part, place, align=1)
            return
        masked = external(
            self.module,
            f"llvm.masked.store.v{count}i8.p0",
            VOID,
            [vec(I8, count), place.type, I32, vec(I1, count)],
        )
        b.call(masked, [part, place, const(I32, 1), mask])
