"""Sums of products in 64 bits, one at a time, for what the micro-kernels do not take;

and MatMul's packing of b.
"""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.kernels.blocks import BLOCK, look_up, narrow, requantize, scratch_block, widen
from openbpu.simulator.fast.kernels.lang import helper, int8, int16, int32, int64
from openbpu.simulator.fast.kernels.pointers import (
    KERNEL,
    address_of,
    atomic_add,
    ld,
    p8,
    p16,
    p32,
    p64,
    st,
)
from openbpu.simulator.fast.kernels.tile import OUT, WIDE_AT, finish, saturate

_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1


def conv_any(args: Any, lo: int, hi: int, scratch: Any) -> None:
    """Any convolution in 64 bits, one output at a time. Units are output pixels. The slow way, for int16 ×
    int16.

    args: 0 x, 1 offsets (bytes), 2 row pitch of offsets, 3 taps, 4 element size of x, 5 weights int32 [C,
    taps, depth], 6 C, 7 depth, 8 channels per group, 10 params, 11 bias int64, 13 saturation counter; OUT.
    """
    offsets, pitch, taps, kind = p32(ld(args, 1)), ld(args, 2), ld(args, 3), ld(args, 4)
    channels, depth, per_group = ld(args, 6), ld(args, 7), ld(args, 8)
    out = p64(address_of(args) + 8 * OUT)
    tile, wide = p32(address_of(scratch)), p64(address_of(scratch) + WIDE_AT)
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
            saturate(tile, wide, 1, 16, n, p64(ld(args, 13)))
            y = ld(out, 2) + pixel * ld(out, 3) + start * ld(out, 4)
            r = ld(out, 5) + pixel * ld(out, 6) + start * (ld(out, 6) // channels)
            params = ld(args, 10) + (start // 16) * 512
            finish(out, address_of(scratch), 1, 1, n, params, y, r)


def pack_b(args: Any, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001
    """Pack b of a MatMul for the micro-kernels. Units are (batch, group of 16 columns).

    args: 0 b, 1 element size, 2 K, 3 N, 4 transposed, 5 packed, 6 init int32, 7 words per step (4: bytes, 2:
    int16), 8 b_zero, 9 minus what times the column sum goes to init (a_zero, + 128 for bytes); packed
    [steps][16][word].
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

    args: 0 a, 1 a kind, 2 b, 3 b kind, 4 y, 5 y kind, 6 M, 7 K, 8 N, 9 a shared, 10 b shared, 11 transposed,
    12 a_zero, 13 b_zero, 14 mult, 15 offset, 16 shift, 17 zero, 18 lo, 19 hi, 20 table, 21 raw, 22
    saturation counter.
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
    look_up(total, n, ld(args, 20), ld(args, 5))


KERNELS = {"conv_any": (conv_any, KERNEL), "pack_b": (pack_b, KERNEL), "matmul_any": (matmul_any, KERNEL)}
