"""The micro-kernel of convolutions and matrix products: `rows` × 16·`groups` int32 accumulators in registers.

    tile[m][n] = init[n] + Σ_taps Σ_k a[m][tap][k] · b[n][tap][k]

A row of A is read through an indirection: `offsets[tap · row_pitch + m]` is where the `depth` bytes of one
tap start (implicit im2col: an offset may point at the padding). B is packed [taps·steps][16·groups][word], a
word being the operands that one lane multiplies at once: 4 bytes ("bytes") or 2 int16 ("words").

    bytes: u8 × s8, a + 128 by xor, corrected through `init`   llvm.x86.*vpdpbusd
    words: s16 × s16                                           llvm.x86.*vpdpwssd, or multiply and add pairs
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from openbpu.simulator.fast.conv.arguments import GROUP, MAX_ROWS
from openbpu.simulator.fast.vector.multiply import multiplier
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

_SIGN_BITS = -0x7F7F7F80


def tile_name(words: bool, groups: int, rows: int) -> str:
    """The symbol of one micro-kernel."""
    return f"gemm_{'words' if words else 'bytes'}_{rows}x{groups}"


def has_bytes(mode: str) -> bool:
    """Whether a mode multiplies bytes; the portable one widens them to 16 bits first."""
    return mode != "portable"


class _Tile:
    """Builds one micro-kernel: tile(x, offsets, row_pitch, taps, steps, b, init, out)."""

    def __init__(self, module: Any, mode: str, words: bool, groups: int, rows: int) -> None:
        self.rows, self.words = rows, words
        self.lanes = 16 if mode == "vnni512" else 8
        self.columns = groups * GROUP // self.lanes
        self.kind = vec(I32, self.lanes)
        self.multiply = multiplier(module, mode, words=words)
        self.f = function(module, tile_name(words, groups, rows), [PTR, PTR, I64, I64, I64, PTR, PTR, PTR])
        self.builder = ir.IRBuilder(self.f.append_basic_block("entry"))

    def build(self) -> None:
        b, (x, offsets, pitch, taps, steps, packed, init, out) = self.builder, self.f.args
        start = [load(b, at(b, init, j * self.lanes, I32), self.kind, 4) for j in range(self.columns)]
        entry, tap, loop, tap_end, done = (
            b.block,
            *map(self.f.append_basic_block, ("tap", "loop", "tap_end", "done")),
        )
        b.branch(tap)

        b.position_at_end(tap)
        t, row_offsets, b_tap = b.phi(I64), b.phi(PTR), b.phi(PTR)
        sums_tap = self._phis()
        pointers = [
            at(b, x, b.sext(load(b, at(b, row_offsets, m, I32), I32, 4), I64), I8) for m in range(self.rows)
        ]
        b.branch(loop)

        b.position_at_end(loop)
        k, b_at = b.phi(I64), b.phi(PTR)
        sums = self._phis()
        new = self._step(pointers, b.shl(k, const(I64, 2)), b_at, sums)
        k_next = b.add(k, const(I64, 1))
        b_next = at(b, b_at, 4 * self.lanes * self.columns, I8)
        b.cbranch(b.icmp_signed("<", k_next, steps), loop, tap_end)

        b.position_at_end(tap_end)
        t_next, offsets_next = b.add(t, const(I64, 1)), at(b, row_offsets, pitch, I32)
        b.cbranch(b.icmp_signed("<", t_next, taps), tap, done)

        zero = const(I64, 0)
        _join(t, (zero, entry), (t_next, tap_end))
        _join(row_offsets, (offsets, entry), (offsets_next, tap_end))
        _join(b_tap, (packed, entry), (b_next, tap_end))
        _join(k, (zero, tap), (k_next, loop))
        _join(b_at, (b_tap, tap), (b_next, loop))
        for m in range(self.rows):
            for j in range(self.columns):
                _join(sums_tap[m][j], (start[j], entry), (new[m][j], tap_end))
                _join(sums[m][j], (sums_tap[m][j], tap), (new[m][j], loop))

        b.position_at_end(done)
        for m in range(self.rows):
            for j in range(self.columns):
                place = at(b, out, (m * self.columns + j) * self.lanes, I32)
                b.store(new[m][j], place, align=4)
        b.ret_void()

    def _phis(self) -> list[list[Any]]:
        return [[self.builder.phi(self.kind) for _ in range(self.columns)] for _ in range(self.rows)]

    def _step(self, pointers: list[Any], offset: Any, b_at: Any, sums: list[list[Any]]) -> list[list[Any]]:
        b = self.builder
        weights = [load(b, at(b, b_at, 4 * self.lanes * j, I8), self.kind, 4) for j in range(self.columns)]
        new = []
        for pointer, row in zip(pointers, sums, strict=True):
            a = splat(b, load(b, at(b, pointer, offset, I8), I32), self.lanes)
            if not self.words:
                a = b.xor(a, const(self.kind, _SIGN_BITS))
            new.append([self.multiply(b, s, a, w) for s, w in zip(row, weights, strict=True)])
        return new


def _join(phi: Any, *incoming: tuple[Any, Any]) -> None:
    for value, block in incoming:
        phi.add_incoming(value, block)


def add_tiles(module: Any, mode: str) -> None:
    """Add every micro-kernel of a mode to `module`."""
    for words in (False, True) if has_bytes(mode) else (True,):
        for groups, most in enumerate(MAX_ROWS[mode]):
            for rows in range(1, most + 1):
                _Tile(module, mode, words, groups, rows).build()
