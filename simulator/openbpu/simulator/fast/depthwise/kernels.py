"""Depthwise convolutions: one input channel per output channel."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.kernels.lang import helper, int32, int64
from openbpu.simulator.fast.kernels.pointers import KERNEL, address_of, call, ld, p8, p16, p32, p64, st
from openbpu.simulator.fast.kernels.tile import OUT, WIDE_AT, finish, saturate

GROUP_FIELDS = 8


def depthwise(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """Units are (output pixel, 64 channels): one input channel per output channel, any dtype, any window.

    args: 0 x, 1 offsets (bytes), 2 row pitch of offsets, 3 taps, 4 element size of x, 5 weights int32 [taps,
    C], 6 C, 7 blocks per pixel, 10 params, 11 bias int64, 12 wide, 13 saturation counter; OUT.
    """
    offsets, pitch, taps, kind = p32(ld(args, 1)), ld(args, 2), ld(args, 3), ld(args, 4)
    channels, per_pixel = ld(args, 6), ld(args, 7)
    out = p64(address_of(args) + 8 * OUT)
    tile, wide = p32(address_of(scratch)), p64(address_of(scratch) + WIDE_AT)
    for unit in range(lo, hi):
        pixel, start = unit // per_pixel, (unit % per_pixel) * 64
        n = min(channels - start, 64)
        bias = p64(ld(args, 11) + 8 * start)
        for c in range(n):
            st(wide, c, ld(bias, c))
            st(tile, c, int32(ld(bias, c)))
        for tap in range(taps):
            x = ld(args, 0) + int64(ld(offsets, tap * pitch + pixel)) + start * kind
            weights = p32(ld(args, 5) + 4 * (tap * channels + start))
            if ld(args, 12):
                _tap_wide(wide, x, kind, weights, n)
            else:
                _tap(tile, x, kind, weights, n)
        if ld(args, 12):
            saturate(tile, wide, 1, 64, n, p64(ld(args, 13)))
        y = ld(out, 2) + pixel * ld(out, 3) + start * ld(out, 4)
        r_kind = ld(out, 6) // channels
        r = ld(out, 5) + pixel * ld(out, 6) + start * r_kind
        groups = (n + 15) // 16
        params = ld(args, 10) + (start // 16) * 512
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


def depthwise_tiled(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """Depthwise by vector.depthwise16. Units are chunks of 16 output pixels.

    args: 0 x, 1 offsets, 2 row pitch of offsets, 3 pixels, 4 pairs of taps, 5 element size of x, 6 channels,
    7 kernel, 8 weights, 9 init, 10 params; OUT.
    """
    pixels, pairs, channels = ld(args, 3), ld(args, 4), ld(args, 6)
    out = p64(address_of(args) + 8 * OUT)
    tile = address_of(scratch)
    for unit in range(lo, hi):
        first = unit * 16
        count = min(pixels - first, 16)
        y, r = ld(out, 2) + first * ld(out, 8), ld(out, 5) + first * ld(out, 9)
        for block in range((channels + 15) // 16):
            start = block * 16
            x, offsets = ld(args, 0) + start * ld(args, 5), ld(args, 1) + 4 * first
            weights, init = ld(args, 8) + block * pairs * 64, ld(args, 9) + block * 64
            call(ld(args, 7), (x, offsets, ld(args, 2), count, pairs, weights, init, tile))
            n, params = min(channels - start, 16), ld(args, 10) + block * 512
            y_at, r_at = y + start * ld(out, 4), r + start * (ld(out, 9) // channels)
            finish(out, tile, count, 1, n, params, y_at, r_at)


def depthwise_packed(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as every kernel
    """Depthwise by the kernels of vector.depthwise64. Units are chunks of output pixels.

    args: 0 x, 1 offsets, 2 row pitch of offsets, 3 pixels, 4 quads of taps, 5 pixels of a chunk, 6 blocks, 7
    their table int64 [·,8] = kernel, first channel, channels, weights, init, params (byte offsets); 8
    kernels, 9 weights, 10 init, 11 params, 12 consts, 13 y, 14 bytes of a pixel.
    """
    blocks, kernels = ld(args, 7), p64(ld(args, 8))
    pixels, chunk, pitch = ld(args, 3), ld(args, 5), ld(args, 14)
    for unit in range(lo, hi):
        start = unit * chunk
        count = min(chunk, pixels - start)
        for index in range(ld(args, 6)):
            block = p64(blocks + index * (8 * GROUP_FIELDS))
            first = ld(block, 1)
            call(
                ld(kernels, ld(block, 0)),
                (
                    ld(args, 0) + first,
                    ld(args, 1) + 4 * start,
                    ld(args, 2),
                    count,
                    ld(args, 4),
                    ld(args, 9) + ld(block, 3),
                    ld(args, 10) + ld(block, 4),
                    ld(args, 11) + ld(block, 5),
                    ld(args, 13) + start * pitch + first,
                    pitch,
                    ld(block, 2),
                    ld(args, 12),
                ),
            )


KERNELS = {
    "depthwise": (depthwise, KERNEL),
    "depthwise_tiled": (depthwise_tiled, KERNEL),
    "depthwise_packed": (depthwise_packed, KERNEL),
}
