"""Depthwise convolutions: one input channel per output channel."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.depthwise.arguments import (
    CHANNELS,
    PACKED_PIXELS,
    TILE_PIXELS,
    Depthwise,
    DepthwisePacked,
    DepthwiseTiled,
)
from openbpu.simulator.fast.language.lang import helper, int32, int64
from openbpu.simulator.fast.language.pointers import address_of, call, ld, p8, p16, p32, p64, st
from openbpu.simulator.fast.language.records import kernel
from openbpu.simulator.fast.layer.arguments import LANES, PARAM_BYTES
from openbpu.simulator.fast.layer.kernels import finish, saturate
from openbpu.simulator.fast.scratch import WIDE_AT


@kernel
def depthwise(args: Depthwise, lo: int, hi: int, scratch: Any) -> None:
    """Units are (output pixel, 64 channels)."""
    offsets, pixels, taps, kind = args.offsets, args.pixels, args.taps, args.x_kind
    channels, per_pixel = args.channels, args.per_pixel
    out = args.out
    tile, wide = p32(address_of(scratch)), p64(address_of(scratch) + WIDE_AT)
    for unit in range(lo, hi):
        pixel, start = unit // per_pixel, (unit % per_pixel) * CHANNELS
        n = min(channels - start, CHANNELS)
        bias = p64(args.bias + 8 * start)
        for c in range(n):
            st(wide, c, ld(bias, c))
            st(tile, c, int32(ld(bias, c)))
        for tap in range(taps):
            x = args.x + int64(ld(offsets, tap * pixels + pixel)) + start * kind
            weights = p32(args.weights + 4 * (tap * channels + start))
            if args.wide:
                _tap_wide(wide, x, kind, weights, n)
            else:
                _tap(tile, x, kind, weights, n)
        if args.wide:
            saturate(tile, wide, 1, CHANNELS, n, args.saturations)
        y = out.y + pixel * out.y_pitch + start * out.y_kind
        r_kind = out.r_pitch // channels
        r = out.r + pixel * out.r_pitch + start * r_kind
        groups = (n + LANES - 1) // LANES
        params = args.params + (start // LANES) * PARAM_BYTES
        finish(out, address_of(scratch), 1, groups, n, params, y, r)


@helper
def _tap(tile: Any, x: int, kind: int, weights: Any, n: int) -> None:
    if kind == 1:
        for c in range(n):
            st(tile, c, int32(ld(tile, c) + int32(ld(p8(x), c)) * ld(weights, c)))
    else:
        for c in range(n):
            st(tile, c, int32(ld(tile, c) + int32(ld(p16(x), c)) * ld(weights, c)))


@helper
def _tap_wide(wide: Any, x: int, kind: int, weights: Any, n: int) -> None:
    if kind == 1:
        for c in range(n):
            st(wide, c, ld(wide, c) + int64(ld(p8(x), c)) * int64(ld(weights, c)))
    else:
        for c in range(n):
            st(wide, c, ld(wide, c) + int64(ld(p16(x), c)) * int64(ld(weights, c)))


@kernel
def depthwise_tiled(args: DepthwiseTiled, lo: int, hi: int, scratch: Any) -> None:
    """Units are chunks of 16 output pixels."""
    pixels, pairs, channels = args.pixels, args.pairs, args.channels
    out = args.out
    tile = address_of(scratch)
    for unit in range(lo, hi):
        first = unit * TILE_PIXELS
        count = min(pixels - first, TILE_PIXELS)
        y, r = out.y + first * out.y_pixel, out.r + first * out.r_pixel
        for block in range((channels + LANES - 1) // LANES):
            start = block * LANES
            x, offsets = args.x + start * args.x_kind, args.offsets + 4 * first
            weights, init = args.weights + block * pairs * 64, args.init + block * 64
            call(args.code, (x, offsets, pixels, count, pairs, weights, init, tile))
            n, params = min(channels - start, LANES), args.params + block * PARAM_BYTES
            y_at, r_at = y + start * out.y_kind, r + start * (out.r_pixel // channels)
            finish(out, tile, count, 1, n, params, y_at, r_at)


@kernel
def depthwise_packed(args: DepthwisePacked, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as all
    """Units are chunks of 32 output pixels."""
    blocks, codes = args.blocks, args.codes
    pixels, channels = args.pixels, args.channels
    for unit in range(lo, hi):
        start = unit * PACKED_PIXELS
        count = min(PACKED_PIXELS, pixels - start)
        for index in range(args.block_count):
            block = blocks[index]
            x, offsets = args.x + block.first, args.offsets + 4 * start
            weights, init = args.weights + block.weights, args.init + block.init
            params, y = args.params + block.params, args.y + start * channels + block.first
            call(
                ld(codes, block.width),
                (
                    x, offsets, pixels, count, args.quads, weights, init, params, y, channels, block.channels,
                    args.consts,
                ),
            )  # fmt: skip
