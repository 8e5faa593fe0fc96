"""Depthwise convolution of 16 channels at a time, for any CPU and for int16: two taps are multiplied at once.

depthwise16(x, offsets, pitch, pixels, pairs, weights, init, tile)

offsets [2·pairs][pitch] int32 bytes; weights [pairs][16 channels][2 taps] int16; init [16] int32; the result
is a tile [pixels][16] of int32 for the epilogue. The int16 of two taps are interleaved and multiplied as in
`conv.vector`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from openbpu.simulator.fast.layer.arguments import LANES
from openbpu.simulator.fast.vector.loops import counted
from openbpu.simulator.fast.vector.multiply import multiplier
from openbpu.simulator.fast.vector.types import (
    I8,
    I16,
    I32,
    I64,
    PTR,
    at,
    const,
    function,
    load,
    shuffle,
    vec,
)

_PAIR_BYTES = 4 * LANES


def depthwise16_name(size: int) -> str:
    """The symbol for an x of `size` bytes per element."""
    return f"depthwise16_{size}"


class _Depthwise16:
    def __init__(self, module: Any, mode: str, size: int) -> None:
        self.kind = vec({1: I8, 2: I16}[size], LANES)
        self.multiply = multiplier(module, mode, words=True)
        self.registers = 1 if mode == "vnni512" else 2
        self.sums = vec(I32, LANES // self.registers)
        self.f = function(module, depthwise16_name(size), [PTR, PTR, I64, I64, I64, PTR, PTR, PTR])
        self.b = ir.IRBuilder(self.f.append_basic_block("entry"))

    def build(self) -> None:
        b = self.b
        _, _, _, pixels, _, _, init, tile = self.f.args
        start = self._load(init)
        with counted(b, pixels) as pixel:
            place = at(b, tile, b.mul(pixel, const(I64, LANES)), I32)
            for i, total in enumerate(self._total(pixel, start)):
                b.store(total, at(b, place, i * self.sums.count, I32), align=4)
        b.ret_void()

    def _load(self, pointer: Any) -> list[Any]:
        b, count = self.b, self.sums.count
        return [load(b, at(b, pointer, i * count, I32), self.sums, 4) for i in range(self.registers)]

    def _total(self, pixel: Any, start: list[Any]) -> list[Any]:
        b, before, pairs, weights = self.b, self.b.block, self.f.args[4], self.f.args[5]
        loop = b.append_basic_block("pair")
        b.branch(loop)
        b.position_at_end(loop)
        pair = b.phi(I64)
        sums = [b.phi(self.sums) for _ in start]
        first = b.shl(pair, const(I64, 1))
        taps = [self._tap(b.add(first, const(I64, i)), pixel) for i in range(2)]
        factors = self._load(at(b, weights, b.mul(pair, const(I64, _PAIR_BYTES)), I8))
        new = [
            self.multiply(b, s, self._interleaved(taps, i), w)
            for i, (s, w) in enumerate(zip(sums, factors, strict=True))
        ]
        after = b.add(pair, const(I64, 1))
        for phi, initial, last in ((pair, const(I64, 0), after), *zip(sums, start, new, strict=True)):
            phi.add_incoming(initial, before)
            phi.add_incoming(last, loop)
        done = b.append_basic_block("summed")
        b.cbranch(b.icmp_signed("<", after, pairs), loop, done)
        b.position_at_end(done)
        return new

    def _tap(self, tap: Any, pixel: Any) -> Any:
        """16 channels of one tap as int16."""
        b, (x, offsets, pitch) = self.b, self.f.args[:3]
        offset = load(b, at(b, offsets, b.add(b.mul(tap, pitch), pixel), I32), I32, 4)
        values = load(b, at(b, x, b.sext(offset, I64), I8), self.kind)
        return values if self.kind.element is I16 else b.sext(values, vec(I16, LANES))

    def _interleaved(self, taps: list[Any], part: int) -> Any:
        """The two taps of the channels of one register side by side."""
        count = self.sums.count
        lanes = [i + tap * LANES for i in range(part * count, (part + 1) * count) for tap in range(2)]
        return self.b.bitcast(shuffle(self.b, taps[0], taps[1], lanes), self.sums)


def add_depthwise16(module: Any, mode: str) -> None:
    """Add the kernels for int8 and int16."""
    for size in (1, 2):
        _Depthwise16(module, mode, size).build()
