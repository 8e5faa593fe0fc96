"""Convolutions and matrix products around the micro-kernels of `vector`: which tile, which weights, where to.

Arguments shared by the kernels that end in an epilogue (OUT is the index of the first):
OUT+0 epilogue (0: raw), 1 consts, 2 y, 3 y pitch, 4 element size of y, 5 r, 6 r pitch, 7 table, 8 bytes of a pixel of y,
9 of r. A pitch is the distance of the rows of a tile: that of pixels, or more when phases interleave.
"""

from __future__ import annotations

from typing import Any

from numba import types

from openbpu.simulator.fast.kernels.blocks import BLOCK, helper, narrow, requantize, scratch_block, widen
from openbpu.simulator.fast.kernels.blocks import look_up as look_up_block
from openbpu.simulator.fast.kernels.pointers import (
    KERNEL,
    address_of,
    atomic_add,
    call,
    ld,
    p8,
    p16,
    p32,
    p64,
    st,
)

int8, int16, int32, int64 = types.int8, types.int16, types.int32, types.int64

GROUP_FIELDS = 8
UNIT_FIELDS = 4
TILE_SLOTS = 17
_OUT = 14
_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1
_WIDE_AT, _BYTES_AT = 4096, 12288  # in scratch: the int32 tile, the int64 tile, the tile before a table


@helper
def finish(
    out: Any, tile: int, rows: int, groups: int, channels: int, params: int, y: int, r: int, tmp: int
) -> None:
    """Requantize an int32 tile [rows][16·groups] into rows of y; `out` points at the OUT arguments."""
    epilogue, consts, pitch, kind = ld(out, 0), ld(out, 1), ld(out, 3), ld(out, 4)
    if epilogue == 0:
        for row in range(rows):
            source, target = p32(tile + row * groups * 64), p32(y + row * pitch)
            for c in range(channels):
                st(target, c, ld(source, c))
        return
    table = ld(out, 7)
    if table == 0:
        call(epilogue, (tile, rows, groups, params, channels, y, pitch, r, ld(out, 6), consts))
        return
    call(epilogue, (tile, rows, groups, params, channels, tmp, groups * 16, r, ld(out, 6), consts))
    for row in range(rows):
        _look_up_row(y + row * pitch, kind, tmp + row * groups * 16, table, channels)


@helper
def _look_up_row(y: int, kind: int, x: int, table: int, n: int) -> None:
    if kind == 1:
        for c in range(n):
            st(p8(y), c, ld(p8(table), int64(ld(p8(x), c)) + 128))
    elif kind == 2:
        for c in range(n):
            st(p16(y), c, ld(p16(table), int64(ld(p8(x), c)) + 128))
    else:
        for c in range(n):
            st(p32(y), c, ld(p32(table), int64(ld(p8(x), c)) + 128))


def gemm(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """Units are tiles: rows of A times a block of channels.

    args: 0 x, 1 offsets, 2 row pitch of offsets, 3 taps, 4 steps, 5 units int32 [U,4] = block, first offset, rows,
    first row of y; 6 blocks int64 [·,8] = x, y, r, b, init, params (byte offsets), channels, groups; 7 micro-kernels
    [groups·17 + rows]; 8 b, 9 init, 10 params, 11 bias int64, 12 steps that int32 can sum, 13 saturation counter; OUT.
    """
    units, blocks, tiles = p32(ld(args, 5)), ld(args, 6), p64(ld(args, 7))
    pitch, taps, steps = ld(args, 2), ld(args, 3), ld(args, 4)
    out = p64(address_of(args) + 8 * _OUT)
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
        finish(out, tile, rows, groups, ld(block, 6), ld(args, 10) + ld(block, 5), y, r, tile + _BYTES_AT)


def gemm_wide(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """As `gemm` with 64-bit accumulation: int32 tiles of few enough steps are added up, then saturated once."""
    units, blocks, tiles = p32(ld(args, 5)), ld(args, 6), p64(ld(args, 7))
    out = p64(address_of(args) + 8 * _OUT)
    tile, wide = address_of(scratch), p64(address_of(scratch) + _WIDE_AT)
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
        _saturate(p32(tile), wide, rows, groups * 16, ld(block, 6), p64(ld(args, 13)))
        y = ld(out, 2) + first * ld(out, 8) + ld(block, 1)
        r = ld(out, 5) + first * ld(out, 9) + ld(block, 2)
        finish(out, tile, rows, groups, ld(block, 6), ld(args, 10) + ld(block, 5), y, r, tile + _BYTES_AT)


@helper
def _add_wide(args: Any, kernel: int, block: Any, offsets: int, tile: int, wide: Any, size: int) -> None:
    """wide += Σ over all taps and steps; `init` holds zeros, since the bias is in `wide` already."""
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


@helper
def _saturate(tile: Any, wide: Any, rows: int, pitch: int, channels: int, counter: Any) -> None:
    """tile = sat32(wide), counting what did not fit."""
    count = int64(0)
    for row in range(rows):
        for c in range(channels):
            v = ld(wide, row * pitch + c)
            s = min(max(v, int64(_INT32_MIN)), int64(_INT32_MAX))
            count += int64(s != v)
            st(tile, row * pitch + c, int32(s))
    if count:
        atomic_add(counter, 0, count)


def depthwise(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """Units are (output pixel, 64 channels): one input channel per output channel, any dtype, any window.

    args: 0 x, 1 offsets (bytes), 2 row pitch of offsets, 3 taps, 4 element size of x, 5 weights int32 [taps, C], 6 C,
    7 blocks per pixel, 10 params, 11 bias int64, 12 wide, 13 saturation counter; OUT.
    """
    offsets, pitch, taps, kind = p32(ld(args, 1)), ld(args, 2), ld(args, 3), ld(args, 4)
    channels, per_pixel = ld(args, 6), ld(args, 7)
    out = p64(address_of(args) + 8 * _OUT)
    tile, wide = p32(address_of(scratch)), p64(address_of(scratch) + _WIDE_AT)
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
            _saturate(tile, wide, 1, 64, n, p64(ld(args, 13)))
        y = ld(out, 2) + pixel * ld(out, 3) + start * ld(out, 4)
        r_kind = ld(out, 6) // channels
        r = ld(out, 5) + pixel * ld(out, 6) + start * r_kind
        groups = (n + 15) // 16
        params = ld(args, 10) + (start // 16) * 512
        finish(out, address_of(scratch), 1, groups, n, params, y, r, address_of(scratch) + _BYTES_AT)


def depthwise_packed(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as every kernel
    """Depthwise by the kernels of vector.depthwise64. Units are chunks of output pixels.

    args: 0 x, 1 offsets, 2 row pitch of offsets, 3 pixels, 4 quads of taps, 5 pixels of a chunk, 6 blocks, 7 their table
    int64 [·,8] = kernel, first channel, channels, weights, init, params (byte offsets); 8 kernels, 9 weights, 10 init,
    11 params, 12 consts, 13 y, 14 bytes of a pixel.
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


def conv_any(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """Any convolution in 64 bits, one output at a time. Units are output pixels. The slow way, for int16 × int16.

    args: 0 x, 1 offsets (bytes), 2 row pitch of offsets, 3 taps, 4 element size of x, 5 weights int32 [C, taps, depth],
    6 C, 7 depth, 8 channels per group, 10 params, 11 bias int64, 13 saturation counter; OUT.
    """
    offsets, pitch, taps, kind = p32(ld(args, 1)), ld(args, 2), ld(args, 3), ld(args, 4)
    channels, depth, per_group = ld(args, 6), ld(args, 7), ld(args, 8)
    out = p64(address_of(args) + 8 * _OUT)
    tile, wide = p32(address_of(scratch)), p64(address_of(scratch) + _WIDE_AT)
    for pixel in range(lo, hi):
        for start in range(0, channels, 16):
            n = min(channels - start, 16)
            for c in range(n):
                total = ld(p64(ld(args, 11)), start + c)
                group = (start + c) // per_group
                for tap in range(taps):
                    x = ld(args, 0) + int64(ld(offsets, tap * pitch + pixel)) + group * depth * kind
                    weights = p32(ld(args, 5) + 4 * (((start + c) * taps + tap) * depth))
                    for k in range(depth):
                        a = int64(ld(p8(x), k)) if kind == 1 else int64(ld(p16(x), k))
                        total += a * int64(ld(weights, k))
                st(wide, c, total)
            _saturate(tile, wide, 1, 16, n, p64(ld(args, 13)))
            y = ld(out, 2) + pixel * ld(out, 3) + start * ld(out, 4)
            r = ld(out, 5) + pixel * ld(out, 6) + start * (ld(out, 6) // channels)
            params = ld(args, 10) + (start // 16) * 512
            finish(out, address_of(scratch), 1, 1, n, params, y, r, address_of(scratch) + _BYTES_AT)


def widen_words(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as every kernel
    """y int16 = x int8. Units are elements. args: x, y."""
    x, y = p8(ld(args, 0)), p16(ld(args, 1))
    for i in range(lo, hi):
        st(y, i, int16(ld(x, i)))


def pack_b(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001
    """Pack b of a MatMul for the micro-kernels. Units are (batch, group of 16 columns).

    args: 0 b, 1 element size, 2 K, 3 N, 4 transposed, 5 packed, 6 init int32, 7 words per step (4: bytes, 2: int16),
    8 b_zero, 9 minus what times the column sum goes to init (a_zero, + 128 for bytes); packed [steps][16][word].
    """
    kind, depth, columns, word, b_zero = ld(args, 1), ld(args, 2), ld(args, 3), ld(args, 7), ld(args, 8)
    groups, steps = (columns + 15) // 16, (depth + word - 1) // word
    k_step, n_step = (1, depth) if ld(args, 4) else (columns, 1)
    for unit in range(lo, hi):
        batch, group = unit // groups, unit % groups
        b = ld(args, 0) + batch * depth * columns * kind
        packed = ld(args, 5) + unit * steps * 64
        for lane in range(16):
            n = group * 16 + lane
            total = int64(0)
            for k in range(steps * word):
                v = int64(0)
                if n < columns and k < depth:
                    at = k * k_step + n * n_step
                    v = (int64(ld(p8(b), at)) if kind == 1 else int64(ld(p16(b), at))) - b_zero
                total += v
                place = ((k // word) * 16 + lane) * word + k % word
                if word == 4:
                    st(p8(packed), place, int8(v))
                else:
                    st(p16(packed), place, int16(v))
            st(p32(ld(args, 6)), unit * 16 + lane, int32(-ld(args, 9) * total))


def matmul_any(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """Any MatMul in 64 bits. Units are rows of the output (all batches).

    args: 0 a, 1 a kind, 2 b, 3 b kind, 4 y, 5 y kind, 6 M, 7 K, 8 N, 9 a shared, 10 b shared, 11 transposed, 12 a_zero,
    13 b_zero, 14 mult, 15 offset, 16 shift, 17 zero, 18 lo, 19 hi, 20 table, 21 raw, 22 saturation counter.
    """
    a_kind, b_kind, y_kind = ld(args, 1), ld(args, 3), ld(args, 5)
    m, depth, columns, b_zero = ld(args, 6), ld(args, 7), ld(args, 8), ld(args, 13)
    k_step, n_step = (1, depth) if ld(args, 11) else (columns, 1)
    total, v = scratch_block(scratch, 0), scratch_block(scratch, 1)
    for unit in range(lo, hi):
        batch = unit // m
        a_row = (unit % m) if ld(args, 9) else unit
        b = ld(args, 2) + (0 if ld(args, 10) else batch) * depth * columns * b_kind
        for start in range(0, columns, BLOCK):
            n = min(columns - start, BLOCK)
            for i in range(n):
                st(total, i, int64(0))
            for k in range(depth):
                at = a_row * depth + k
                value = int64(ld(p8(ld(args, 0)), at)) if a_kind == 1 else int64(ld(p16(ld(args, 0)), at))
                value -= ld(args, 12)
                widen(v, b + (k * k_step + start * n_step) * b_kind, b_kind, n_step, n)
                for i in range(n):
                    st(total, i, ld(total, i) + value * (ld(v, i) - b_zero))
            _finish_matmul(args, total, n)
            narrow(ld(args, 4) + (unit * columns + start) * y_kind, y_kind, total, n)


@helper
def _finish_matmul(args: Any, total: Any, n: int) -> None:
    count = int64(0)
    for i in range(n):
        v = ld(total, i)
        s = min(max(v, int64(_INT32_MIN)), int64(_INT32_MAX))
        count += int64(s != v)
        st(total, i, s)
    if count:
        atomic_add(p64(ld(args, 22)), 0, count)
    if ld(args, 21):
        return
    for i in range(n):
        st(total, i, ld(total, i) * ld(args, 14) + ld(args, 15))
    requantize(total, n, ld(args, 16), ld(args, 17), ld(args, 18), ld(args, 19))
    look_up_block(total, n, ld(args, 20), ld(args, 5))


KERNELS = {
    "gemm": (gemm, KERNEL),
    "gemm_wide": (gemm_wide, KERNEL),
    "depthwise": (depthwise, KERNEL),
    "depthwise_packed": (depthwise_packed, KERNEL),
    "widen_words": (widen_words, KERNEL),
}

RARE_KERNELS = {
    "conv_any": (conv_any, KERNEL),
    "pack_b": (pack_b, KERNEL),
    "matmul_any": (matmul_any, KERNEL),
}
