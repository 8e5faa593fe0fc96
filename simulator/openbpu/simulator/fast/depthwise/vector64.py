"""Depthwise convolution for AVX-512 VNNI: 64 channels (or 2 pixels of 32, or 4 of 16) at a time, four taps
at once.

The bytes of four taps are interleaved, so that vpdpbusd multiplies the four taps of one channel; within
128-bit lanes that order is what packing (`layer.vector_pack`) undoes. Per 64 outputs and four taps: 4 loads,
4 xor, 8 unpacks, 4 vpdpbusd.

depthwise(x, offsets, pitch, pixels, quads, weights, init, params, y, y_pitch, channels, consts) offsets
[4·quads][pitch] int32; weights [quads][4][64 bytes], init [4][16] int32, params [4][PARAM_BYTES]; all in the
order of `lane_order`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from openbpu.simulator.fast.depthwise.arguments import WIDTHS
from openbpu.simulator.fast.layer.arguments import PARAM_BYTES
from openbpu.simulator.fast.layer.vector_pack import WIDTH, Pack64
from openbpu.simulator.fast.vector.loops import counted
from openbpu.simulator.fast.vector.types import (
    I8,
    I32,
    I64,
    PTR,
    at,
    const,
    external,
    function,
    load,
    shuffle,
    splat,
    vec,
)

_BYTES = vec(I8, WIDTH)
_SUMS = vec(I32, 16)


def depthwise_name(width: int, *, table: bool) -> str:
    """The symbol for blocks of `width` channels."""
    return f"depthwise_{width}_{int(table)}"


class _Depthwise:
    def __init__(self, module: Any, width: int, *, table: bool) -> None:
        self.module, self.width, self.together = module, width, WIDTH // width
        arguments = [PTR, PTR, I64, I64, I64, PTR, PTR, PTR, PTR, I64, I64, PTR]
        self.f = function(module, depthwise_name(width, table=table), arguments)
        self.b = ir.IRBuilder(self.f.append_basic_block("entry"))
        self.dot = external(module, "llvm.x86.avx512.vpdpbusd.512", _SUMS, [_SUMS] * 3)
        self.pack = Pack64(module, self.b, self.f.args[11], table=table)

    def build(self) -> None:
        b = self.b
        _, _, _, pixels, quads, weights, init, params, y, y_pitch, channels, _ = self.f.args
        start = [load(b, at(b, init, 16 * k, I32), _SUMS, 4) for k in range(4)]
        factors = [self.pack.params(at(b, params, k * PARAM_BYTES, I8), residual=False) for k in range(4)]
        lanes = ir.Constant(vec(I64, self.width), list(range(self.width)))
        mask = b.icmp_signed("<", lanes, splat(b, channels, self.width))
        whole = b.icmp_signed(">=", channels, const(I64, self.width))
        with counted(b, pixels, self.together) as pixel:
            sums = self._sums(pixel, quads, weights, start)
            values = [self.pack.integers(s, f) for s, f in zip(sums, factors, strict=True)]
            packed = self.pack.bytes(values)
            for i in range(self.together):
                here = b.add(pixel, const(I64, i))
                with b.if_then(b.icmp_signed("<", here, pixels)):
                    place = at(b, y, b.mul(here, y_pitch), I8)
                    with b.if_else(whole) as (yes, no):
                        with yes:
                            self.pack.store(packed, i * self.width, self.width, place, None)
                        with no:
                            self.pack.store(packed, i * self.width, self.width, place, mask)
        b.ret_void()

    def _sums(self, pixel: Any, quads: Any, weights: Any, start: list[Any]) -> list[Any]:
        b, before = self.b, self.b.block
        loop = b.append_basic_block("quad")
        b.branch(loop)
        b.position_at_end(loop)
        quad = b.phi(I64)
        sums = [b.phi(_SUMS) for _ in range(4)]
        taps = [self._tap(b.add(b.shl(quad, const(I64, 2)), const(I64, i)), pixel) for i in range(4)]
        mixed = self._interleave(taps)
        here = at(b, weights, b.mul(quad, const(I64, 256)), I8)
        new = [
            b.call(self.dot, [s, m, load(b, at(b, here, 64 * k, I8), _SUMS)])
            for k, (s, m) in enumerate(zip(sums, mixed, strict=True))
        ]
        after = b.add(quad, const(I64, 1))
        for phi, first, last in ((quad, const(I64, 0), after), *zip(sums, start, new, strict=True)):
            phi.add_incoming(first, before)
            phi.add_incoming(last, b.block)
        done = b.append_basic_block("summed")
        b.cbranch(b.icmp_signed("<", after, quads), loop, done)
        b.position_at_end(done)
        return new

    def _tap(self, tap: Any, pixel: Any) -> Any:
        """The bytes of one tap, offset by 128: of one pixel, or of the pixels that share the register."""
        b, (x, offsets, pitch) = self.b, self.f.args[:3]
        row = at(b, offsets, b.add(b.mul(tap, pitch), pixel), I32)
        parts = []
        for i in range(self.together):
            offset = b.sext(load(b, at(b, row, i, I32), I32, 4), I64)
            parts.append(load(b, at(b, x, offset, I8), vec(I8, self.width)))
        while len(parts) > 1:
            size = parts[0].type.count
            parts = [
                shuffle(b, parts[i], parts[i + 1], list(range(2 * size))) for i in range(0, len(parts), 2)
            ]
        return b.xor(parts[0], const(_BYTES, -128))

    def _interleave(self, taps: list[Any]) -> list[Any]:
        """Four registers of 16 channels with their four taps side by side."""
        b = self.b
        pairs = [_unpack(b, taps[0], taps[1], 1), _unpack(b, taps[2], taps[3], 1)]
        quads = []
        for half in range(2):
            low, high = (b.bitcast(pair[half], vec(ir.IntType(16), 32)) for pair in pairs)
            quads += [b.bitcast(v, _SUMS) for v in _unpack(b, low, high, 2)]
        return quads


def _unpack(builder: Any, a: Any, b: Any, size: int) -> tuple[Any, Any]:
    """Interleave the lower, and the upper, halves of each 128-bit lane; elements of `size` bytes."""
    count, per_lane = WIDTH // size, 16 // size
    halves = []
    for half in range(2):
        order = []
        for lane in range(4):
            for i in range(per_lane // 2):
                at_ = lane * per_lane + half * per_lane // 2 + i
                order += [at_, count + at_]
        halves.append(shuffle(builder, a, b, order))
    return halves[0], halves[1]


def add_depthwise(module: Any, *, tables: bool) -> None:
    """Add the depthwise kernels; with fused tables where the CPU permutes bytes."""
    for width in WIDTHS:
        for table in (False, True) if tables else (False,):
            _Depthwise(module, width, table=table).build()
