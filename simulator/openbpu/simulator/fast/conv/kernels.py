"""Convolutions around the micro-kernels of `vector.gemm`: which tile, which weights, where to."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.kernels.lang import helper, int16, int64
from openbpu.simulator.fast.kernels.pointers import KERNEL, address_of, call, ld, p8, p16, p32, p64, st
from openbpu.simulator.fast.kernels.tile import OUT, WIDE_AT, finish, saturate

GROUP_FIELDS = 8
TILE_SLOTS = 17


def gemm(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """Units are tiles: rows of A times a block of channels.

    args: 0 x, 1 offsets, 2 row pitch of offsets, 3 taps, 4 steps, 5 units int32 [U,4] = block, first offset,
    rows, first row of y; 6 blocks int64 [·,8] = x, y, r, b, init, params (byte offsets), channels, groups; 7
    micro-kernels [groups·17 + rows]; 8 b, 9 init, 10 params, 11 bias int64, 12 steps that int32 can sum, 13
    saturation counter; OUT.
    """
    units, blocks, tiles = p32(ld(args, 5)), ld(args, 6), p64(ld(args, 7))
    pitch, taps, steps = ld(args, 2), ld(args, 3), ld(args, 4)
    out = p64(address_of(args) + 8 * OUT)
    tile = address_of(scratch)
    for unit in range(lo, hi):
        rows, first = int64(ld(units, unit * 4 + 2)), int64(ld(units, unit * 4 + 3))
        block = p64(blocks + int64(ld(units, unit * 4)) * (8 * GROUP_FIELDS))
        groups = ld(block, 7)
        x = ld(args, 0) + ld(block, 0)
        offsets = ld(args, 1) + 4 * int64(ld(units, unit * 4 + 1))
        kernel = ld(tiles, groups * TILE_SLOTS + rows)
        call(
            kernel,
            (x, offsets, pitch, taps, steps, ld(args, 8) + ld(block, 3), ld(args, 9) + ld(block, 4), tile),
        )
        y = ld(out, 2) + first * ld(out, 8) + ld(block, 1)
        r = ld(out, 5) + first * ld(out, 9) + ld(block, 2)
        finish(out, tile, rows, groups, ld(block, 6), ld(args, 10) + ld(block, 5), y, r)


def gemm_wide(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """As `gemm` with 64-bit accumulation:

    int32 tiles of few enough steps are added up, then saturated once.
    """
    units, blocks, tiles = p32(ld(args, 5)), ld(args, 6), p64(ld(args, 7))
    out = p64(address_of(args) + 8 * OUT)
    tile, wide = address_of(scratch), p64(address_of(scratch) + WIDE_AT)
    for unit in range(lo, hi):
        rows, first = int64(ld(units, unit * 4 + 2)), int64(ld(units, unit * 4 + 3))
        block = p64(blocks + int64(ld(units, unit * 4)) * (8 * GROUP_FIELDS))
        groups = ld(block, 7)
        kernel = ld(tiles, groups * TILE_SLOTS + rows)
        bias = p64(ld(args, 11) + 2 * ld(block, 4))
        for row in range(rows):
            for c in range(groups * 16):
                st(wide, row * groups * 16 + c, ld(bias, c))
        offsets = ld(args, 1) + 4 * int64(ld(units, unit * 4 + 1))
        _add_wide(args, kernel, block, offsets, tile, wide, rows * groups * 16)
        saturate(p32(tile), wide, rows, groups * 16, ld(block, 6), p64(ld(args, 13)))
        y = ld(out, 2) + first * ld(out, 8) + ld(block, 1)
        r = ld(out, 5) + first * ld(out, 9) + ld(block, 2)
        finish(out, tile, rows, groups, ld(block, 6), ld(args, 10) + ld(block, 5), y, r)


@helper
def _add_wide(args: Any, kernel: int, block: Any, offsets: int, tile: int, wide: Any, size: int) -> None:
    """Wide += Σ over all taps and steps; `init` holds zeros, since the bias is in `wide` already."""
    pitch, taps, steps, most = ld(args, 2), ld(args, 3), ld(args, 4), ld(args, 12)
    x, b, init = ld(args, 0) + ld(block, 0), ld(args, 8) + ld(block, 3), ld(args, 9) + ld(block, 4)
    word = ld(block, 7) * 64
    for tap in range(taps):
        for start in range(0, steps, most):
            count = min(most, steps - start)
            at = b + (tap * steps + start) * word
            call(kernel, (x + 4 * start, offsets + 4 * tap * pitch, pitch, int64(1), count, at, init, tile))
            for i in range(size):
                st(wide, i, ld(wide, i) + int64(ld(p32(tile), i)))


def widen_words(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as every kernel
    """Y int16 = x int8. Units are elements. args: x, y."""
    x, y = p8(ld(args, 0)), p16(ld(args, 1))
    for i in range(lo, hi):
        st(y, i, int16(ld(x, i)))


KERNELS = {"gemm": (gemm, KERNEL), "gemm_wide": (gemm_wide, KERNEL), "widen_words": (widen_words, KERNEL)}
