"""Windows and axes: Pool, Reduce, bilinear Resize."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.kernels.blocks import (
    BLOCK,
    narrow,
    requantize,
    rhe_shift,
    scratch_block,
    widen,
)
from openbpu.simulator.fast.kernels.lang import helper, int8, int64
from openbpu.simulator.fast.kernels.pointers import KERNEL, ld, p8, p32, p64, st

SUM, MAX, MIN = range(3)
_WEIGHT_BITS = 30
_ACROSS = 15


@helper
def _fold(fn: int, total: Any, v: Any, n: int, first: bool) -> None:
    if first:
        for i in range(n):
            st(total, i, ld(v, i))
    elif fn == SUM:
        for i in range(n):
            st(total, i, ld(total, i) + ld(v, i))
    elif fn == MAX:
        for i in range(n):
            st(total, i, max(ld(total, i), ld(v, i)))
    else:
        for i in range(n):
            st(total, i, min(ld(total, i), ld(v, i)))


@helper
def _scale(v: Any, n: int, minus: int, mult: int) -> None:
    for i in range(n):
        st(v, i, (ld(v, i) - minus) * mult)


def pool(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """Units are (output pixel, block of channels).

    args: x, x_kind, y, y_kind, fn, H, W, C, OH, OW, KH, KW, SH, SW, top, left, DH, DW, counts, 1 when
    padding counts (bottom = 22, right = 23), blocks per pixel, x_zero, zero → 24, lo → 25, hi → 26.
    """
    x, x_kind, y, y_kind, fn = ld(args, 0), ld(args, 1), ld(args, 2), ld(args, 3), ld(args, 4)
    height, width, channels, out_h, out_w = ld(args, 5), ld(args, 6), ld(args, 7), ld(args, 8), ld(args, 9)
    kernel_h, kernel_w, down, right = ld(args, 10), ld(args, 11), ld(args, 16), ld(args, 17)
    counts, count_pad, per_pixel = p64(ld(args, 18)), ld(args, 19), ld(args, 20)
    total, v = scratch_block(scratch, 0), scratch_block(scratch, 1)
    for unit in range(lo, hi):
        pixel, start = unit // per_pixel, (unit % per_pixel) * BLOCK
        n = min(channels - start, BLOCK)
        image, row, column = pixel // (out_h * out_w), pixel // out_w % out_h, pixel % out_w
        top, left = row * ld(args, 12) - ld(args, 14), column * ld(args, 13) - ld(args, 15)
        inside, counted = int64(0), int64(0)
        for ky in range(kernel_h):
            for kx in range(kernel_w):
                iy, ix = top + ky * down, left + kx * right
                in_padding = iy < height + ld(args, 22) and ix < width + ld(args, 23)
                if count_pad and in_padding:
                    counted += 1
                if iy < 0 or iy >= height or ix < 0 or ix >= width:
                    continue
                at = ((image * height + iy) * width + ix) * channels + start
                widen(v, x + at * x_kind, x_kind, 1, n)
                _fold(fn, total, v, n, inside == 0)
                inside += 1
        _finish_pool(args, total, n, inside, counted if count_pad else inside, counts)
        narrow(y + (pixel * channels + start) * y_kind, y_kind, total, n)


@helper
def _finish_pool(args: Any, total: Any, n: int, inside: int, counted: int, counts: Any) -> None:
    fn, x_zero = ld(args, 4), ld(args, 21)
    row = int64(0)
    minus = x_zero
    if fn == SUM:
        row = counted
        minus = inside * x_zero
    if inside == 0:
        for i in range(n):
            st(total, i, int64(0))
        minus = int64(0)
    _scale(total, n, minus, ld(counts, 2 * row))
    requantize(total, n, ld(counts, 2 * row + 1), ld(args, 24), ld(args, 25), ld(args, 26))


def reduce(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """Units are (a, block of B) of x [A,R,B]; when B is 1 they are rows.

    args: x, x_kind, y, y_kind, fn, R, B, blocks per a, x_zero, mult, shift, zero, lo, hi.
    """
    x, x_kind, y, y_kind, fn = ld(args, 0), ld(args, 1), ld(args, 2), ld(args, 3), ld(args, 4)
    length, inner, per_row, x_zero = ld(args, 5), ld(args, 6), ld(args, 7), ld(args, 8)
    total, v = scratch_block(scratch, 0), scratch_block(scratch, 1)
    for unit in range(lo, hi):
        outer, start = unit // per_row, (unit % per_row) * BLOCK
        n = min(inner - start, BLOCK)
        base = x + (outer * length * inner + start) * x_kind
        if inner == 1:
            st(total, 0, _fold_row(fn, base, x_kind, length, v))
        else:
            for r in range(length):
                widen(v, base + r * inner * x_kind, x_kind, 1, n)
                _fold(fn, total, v, n, r == 0)
        minus = x_zero * length if fn == SUM else x_zero
        for i in range(n):
            t = min(max(ld(total, i) - minus, int64(-(2**31))), int64(2**31 - 1))
            st(total, i, t * ld(args, 9))
        requantize(total, n, ld(args, 10), ld(args, 11), ld(args, 12), ld(args, 13))
        narrow(y + (outer * inner + start) * y_kind, y_kind, total, n)


@helper
def _fold_row(fn: int, x: int, kind: int, length: int, v: Any) -> Any:
    total = int64(0)
    for start in range(0, length, BLOCK):
        n = min(length - start, BLOCK)
        widen(v, x + start * kind, kind, 1, n)
        if start == 0 and fn != SUM:
            total = ld(v, 0)
        if fn == SUM:
            for i in range(n):
                total += ld(v, i)
        elif fn == MAX:
            for i in range(n):
                total = max(total, ld(v, i))
        else:
            for i in range(n):
                total = min(total, ld(v, i))
    return total


def max_pool_bytes(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as every kernel
    """Max pool of int8 that only clamps.

    Units are output pixels; args as `pool`. Every window meets the input.
    """
    x, y = ld(args, 0), ld(args, 2)
    height, width, channels, out_h, out_w = ld(args, 5), ld(args, 6), ld(args, 7), ld(args, 8), ld(args, 9)
    down, right = ld(args, 16), ld(args, 17)
    low, high = int8(ld(args, 25)), int8(ld(args, 26))
    for pixel in range(lo, hi):
        image, row, column = pixel // (out_h * out_w), pixel // out_w % out_h, pixel % out_w
        top, left = row * ld(args, 12) - ld(args, 14), column * ld(args, 13) - ld(args, 15)
        out = p8(y + pixel * channels)
        for c in range(channels):
            st(out, c, low)
        for ky in range(ld(args, 10)):
            iy = top + ky * down
            if iy < 0 or iy >= height:
                continue
            for kx in range(ld(args, 11)):
                ix = left + kx * right
                if ix < 0 or ix >= width:
                    continue
                source = p8(x + ((image * height + iy) * width + ix) * channels)
                for c in range(channels):
                    st(out, c, min(max(ld(out, c), ld(source, c)), high))


@helper
def _between(left: int, right: int, weight: int, drop: int) -> Any:
    """numerics.between of one value."""
    return rhe_shift((left << _WEIGHT_BITS) + (right - left) * weight, drop)


def resize(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """Bilinear; units are output rows of all images.

    args: x, x_kind, y, y_kind, H, W, C, OH, OW, rows, cols, x_zero, mult, shift, zero, lo, hi.
    """
    x_kind, y_kind = ld(args, 1), ld(args, 3)
    width, channels, out_h, out_w = ld(args, 5), ld(args, 6), ld(args, 7), ld(args, 8)
    rows, columns, x_zero, mult, shift = (
        p32(ld(args, 9)),
        p32(ld(args, 10)),
        ld(args, 11),
        ld(args, 12),
        ld(args, 13),
    )
    zero, low, high = ld(args, 14), ld(args, 15), ld(args, 16)
    v0, v1, v2, v3 = (
        scratch_block(scratch, 0),
        scratch_block(scratch, 1),
        scratch_block(scratch, 2),
        scratch_block(scratch, 3),
    )
    for unit in range(lo, hi):
        image, oy = unit // out_h, unit % out_h
        f = int64(ld(rows, 3 * oy + 2))
        upper = (image * ld(args, 4) + ld(rows, 3 * oy)) * width
        lower = (image * ld(args, 4) + ld(rows, 3 * oy + 1)) * width
        for ox in range(out_w):
            left, right, g = ld(columns, 3 * ox), ld(columns, 3 * ox + 1), int64(ld(columns, 3 * ox + 2))
            for start in range(0, channels, BLOCK):
                n = min(channels - start, BLOCK)
                widen(v0, ld(args, 0) + ((upper + left) * channels + start) * x_kind, x_kind, 1, n)
                widen(v1, ld(args, 0) + ((upper + right) * channels + start) * x_kind, x_kind, 1, n)
                widen(v2, ld(args, 0) + ((lower + left) * channels + start) * x_kind, x_kind, 1, n)
                widen(v3, ld(args, 0) + ((lower + right) * channels + start) * x_kind, x_kind, 1, n)
                for i in range(n):
                    a, b = ld(v0, i) - x_zero, ld(v1, i) - x_zero
                    c, d = ld(v2, i) - x_zero, ld(v3, i) - x_zero
                    above = _between(a, b, g, _ACROSS)
                    below = _between(c, d, g, _ACROSS)
                    st(v0, i, _between(above, below, f, _WEIGHT_BITS) * mult)
                requantize(v0, n, shift, zero, low, high)
                narrow(ld(args, 2) + ((unit * out_w + ox) * channels + start) * y_kind, y_kind, v0, n)


KERNELS = {
    "pool": (pool, KERNEL),
    "max_pool_bytes": (max_pool_bytes, KERNEL),
    "reduce": (reduce, KERNEL),
    "resize": (resize, KERNEL),
}
