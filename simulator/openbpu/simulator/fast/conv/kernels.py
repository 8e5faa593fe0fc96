"""Convolutions around the micro-kernels of `conv.vector`: which tile, which weights, where to."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.conv.arguments import TILE_SLOTS, Block, Gemm, GemmWide, WidenWords
from openbpu.simulator.fast.language.lang import helper, int16, int64
from openbpu.simulator.fast.language.pointers import address_of, call, ld, p32, p64, st
from openbpu.simulator.fast.language.records import kernel
from openbpu.simulator.fast.layer.kernels import finish, saturate
from openbpu.simulator.fast.scratch import WIDE_AT


@kernel
def gemm(args: Gemm, lo: int, hi: int, scratch: Any) -> None:
    """Units are tiles: rows of A times a block of channels."""
    units, blocks, tiles = args.units, args.blocks, args.tiles
    pixels, taps, steps = args.pixels, args.taps, args.steps
    out = args.out
    tile = address_of(scratch)
    for i in range(lo, hi):
        unit = units[i]
        rows, block = unit.rows, blocks[unit.block]
        groups = block.groups
        x, offsets = args.x + block.x, args.offsets + 4 * unit.first
        weights, init = args.weights + block.weights, args.init + block.init
        call(ld(tiles, groups * TILE_SLOTS + rows), (x, offsets, pixels, taps, steps, weights, init, tile))
        y = out.y + unit.pixel * out.y_pixel + block.y
        r = out.r + unit.pixel * out.r_pixel + block.r
        finish(out, tile, rows, groups, block.channels, args.params + block.params, y, r)


@kernel
def gemm_wide(args: GemmWide, lo: int, hi: int, scratch: Any) -> None:
    """Units as of `gemm`. Int32 tiles of few enough steps are added up in 64 bits, then saturated once."""
    units, blocks, tiles = args.units, args.blocks, args.tiles
    out = args.out
    tile, wide = address_of(scratch), p64(address_of(scratch) + WIDE_AT)
    for i in range(lo, hi):
        unit = units[i]
        rows, block = unit.rows, blocks[unit.block]
        groups = block.groups
        code = ld(tiles, groups * TILE_SLOTS + rows)
        bias = p64(args.bias + 2 * block.init)
        for row in range(rows):
            for c in range(groups * 16):
                st(wide, row * groups * 16 + c, ld(bias, c))
        _add_wide(args, code, block, args.offsets + 4 * unit.first, tile, wide, rows * groups * 16)
        saturate(p32(tile), wide, rows, groups * 16, block.channels, args.saturations)
        y = out.y + unit.pixel * out.y_pixel + block.y
        r = out.r + unit.pixel * out.r_pixel + block.r
        finish(out, tile, rows, groups, block.channels, args.params + block.params, y, r)


@helper
def _add_wide(args: GemmWide, code: int, block: Block, offsets: int, tile: int, wide: Any, size: int) -> None:
    """Wide += Σ over all taps and steps; `init` holds zeros, since the bias is in `wide` already."""
    pixels, taps, steps, most = args.pixels, args.taps, args.steps, args.most
    x, weights, init = args.x + block.x, args.weights + block.weights, args.init + block.init
    word = block.groups * 64
    for tap in range(taps):
        for start in range(0, steps, most):
            count = min(most, steps - start)
            at = weights + (tap * steps + start) * word
            call(code, (x + 4 * start, offsets + 4 * tap * pixels, pixels, int64(1), count, at, init, tile))
            for i in range(size):
                st(wide, i, ld(wide, i) + int64(ld(p32(tile), i)))


@kernel
def widen_words(args: WidenWords, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as every kernel
    """Units are elements."""
    x, y = args.x, args.y
    for i in range(lo, hi):
        st(y, i, int16(ld(x, i)))
