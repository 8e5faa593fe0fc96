"""Windows and axes: Pool, Reduce, CumSum, ArgReduce, bilinear Resize, GridSample."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.language.blocks import narrow, requantize, rhe_shift, scratch_block, widen
from openbpu.simulator.fast.language.lang import helper, int8, int64
from openbpu.simulator.fast.language.pointers import ld, p8, p64, st
from openbpu.simulator.fast.language.records import kernel
from openbpu.simulator.fast.scratch import BLOCK
from openbpu.simulator.fast.window.arguments import MAX, SUM, MaxPoolBytes, Pool, Reduce, Resize, Sampled
from openbpu.simulator.fast.window.plan import Cumsum, Places

_WEIGHT_BITS = 30
_ACROSS = 15
_POSITION_BITS = 20


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


@kernel
def pool(args: Pool, lo: int, hi: int, scratch: Any) -> None:
    """Units are (output pixel, block of channels)."""
    x, x_kind, y, y_kind, fn = args.x, args.x_kind, args.y, args.y_kind, args.fn
    height, width, channels = args.height, args.width, args.channels
    out_h, out_w = args.out_height, args.out_width
    kernel_h, kernel_w = args.kernel_height, args.kernel_width
    down, right = args.dilation_down, args.dilation_right
    count_pad, per_pixel = args.count_pad, args.per_pixel
    total, v = scratch_block(scratch, 0), scratch_block(scratch, 1)
    for unit in range(lo, hi):
        pixel, start = unit // per_pixel, (unit % per_pixel) * BLOCK
        n = min(channels - start, BLOCK)
        image, row, column = pixel // (out_h * out_w), pixel // out_w % out_h, pixel % out_w
        top, left = row * args.stride_down - args.top, column * args.stride_right - args.left
        inside, counted = int64(0), int64(0)
        for ky in range(kernel_h):
            for kx in range(kernel_w):
                iy, ix = top + ky * down, left + kx * right
                in_padding = iy < height + args.bottom and ix < width + args.right
                if count_pad and in_padding:
                    counted += 1
                if iy < 0 or iy >= height or ix < 0 or ix >= width:
                    continue
                at = ((image * height + iy) * width + ix) * channels + start
                widen(v, x + at * x_kind, x_kind, 1, n)
                _fold(fn, total, v, n, inside == 0)
                inside += 1
        _finish_pool(args, total, n, inside, counted if count_pad else inside)
        narrow(y + (pixel * channels + start) * y_kind, y_kind, total, n)


@helper
def _finish_pool(args: Pool, total: Any, n: int, inside: int, counted: int) -> None:
    fn, x_zero, counts = args.fn, args.x_zero, args.counts
    row = int64(0)
    minus = x_zero
    if fn == SUM:
        row = counted
        minus = inside * x_zero
    if inside == 0:
        for i in range(n):
            st(total, i, int64(0))
        minus = int64(0)
    count = counts[row]
    _scale(total, n, minus, count.mult)
    requantize(total, n, count.shift, args.zero, args.lo, args.hi)


@kernel
def reduce(args: Reduce, lo: int, hi: int, scratch: Any) -> None:
    """Units are (a, block of b) of x [a, length, b]; when b is 1 they are rows."""
    x, x_kind, y, y_kind, fn = args.x, args.x_kind, args.y, args.y_kind, args.fn
    length, inner, per_row, x_zero = args.length, args.inner, args.per_row, args.x_zero
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
            st(total, i, t * args.mult)
        requantize(total, n, args.shift, args.zero, args.lo, args.hi)
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


@kernel
def max_pool_bytes(args: MaxPoolBytes, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as every kernel
    """Units are output pixels."""
    x, y = args.x, args.y
    height, width, channels = args.height, args.width, args.channels
    out_h, out_w = args.out_height, args.out_width
    down, right = args.dilation_down, args.dilation_right
    low, high = int8(args.lo), int8(args.hi)
    for pixel in range(lo, hi):
        image, row, column = pixel // (out_h * out_w), pixel // out_w % out_h, pixel % out_w
        top, left = row * args.stride_down - args.top, column * args.stride_right - args.left
        out = p8(y + pixel * channels)
        for c in range(channels):
            st(out, c, low)
        for ky in range(args.kernel_height):
            iy = top + ky * down
            if iy < 0 or iy >= height:
                continue
            for kx in range(args.kernel_width):
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


@kernel
def resize(args: Resize, lo: int, hi: int, scratch: Any) -> None:
    """Units are output rows of all images."""
    x_kind, y_kind = args.x_kind, args.y_kind
    width, channels, out_h, out_w = args.width, args.channels, args.out_height, args.out_width
    rows, columns = args.rows, args.columns
    x_zero, mult, shift = args.x_zero, args.mult, args.shift
    zero, low, high = args.zero, args.lo, args.hi
    v0, v1 = scratch_block(scratch, 0), scratch_block(scratch, 1)
    v2, v3 = scratch_block(scratch, 2), scratch_block(scratch, 3)
    for unit in range(lo, hi):
        image, oy = unit // out_h, unit % out_h
        row = rows[oy]
        f = row.weight
        upper = (image * args.height + row.first) * width
        lower = (image * args.height + row.second) * width
        for ox in range(out_w):
            column = columns[ox]
            left, right, g = column.first, column.second, column.weight
            for start in range(0, channels, BLOCK):
                n = min(channels - start, BLOCK)
                widen(v0, args.x + ((upper + left) * channels + start) * x_kind, x_kind, 1, n)
                widen(v1, args.x + ((upper + right) * channels + start) * x_kind, x_kind, 1, n)
                widen(v2, args.x + ((lower + left) * channels + start) * x_kind, x_kind, 1, n)
                widen(v3, args.x + ((lower + right) * channels + start) * x_kind, x_kind, 1, n)
                for i in range(n):
                    a, b = ld(v0, i) - x_zero, ld(v1, i) - x_zero
                    c, d = ld(v2, i) - x_zero, ld(v3, i) - x_zero
                    above = _between(a, b, g, _ACROSS)
                    below = _between(c, d, g, _ACROSS)
                    st(v0, i, _between(above, below, f, _WEIGHT_BITS) * mult)
                requantize(v0, n, shift, zero, low, high)
                narrow(args.y + ((unit * out_w + ox) * channels + start) * y_kind, y_kind, v0, n)


@helper
def _position(args: Sampled, code: int, mult: int, offset: int, shift: int, length: int) -> Any:
    """numerics.positions and clamped_positions of one code."""
    p = rhe_shift(code * mult + offset, shift)
    if args.border:
        p = min(max(p, int64(0)), int64(length - 1) << _POSITION_BITS)
    return p


@helper
def _pixel(args: Sampled, v: Any, image: int, row: int, column: int, start: int, n: int) -> None:
    """v[i] = x − x_zero of n channels from `start` on; zeros outside of the image."""
    if row < 0 or row >= args.height or column < 0 or column >= args.width:
        for i in range(n):
            st(v, i, int64(0))
        return
    pixel = (image * args.height + row) * args.width + column
    widen(v, args.x + (pixel * args.channels + start) * args.x_kind, args.x_kind, 1, n)
    for i in range(n):
        st(v, i, ld(v, i) - args.x_zero)


@kernel
def sampled(args: Sampled, lo: int, hi: int, scratch: Any) -> None:
    """Units are output rows of all images."""
    channels, out_w, mult = args.channels, args.out_width, args.mult
    v0, v1 = scratch_block(scratch, 0), scratch_block(scratch, 1)
    v2, v3 = scratch_block(scratch, 2), scratch_block(scratch, 3)
    mask = (int64(1) << _POSITION_BITS) - 1
    for unit in range(lo, hi):
        image = unit // args.out_height
        for point in range(unit * out_w, (unit + 1) * out_w):
            right = int64(ld(args.grid, 2 * point))
            down = int64(ld(args.grid, 2 * point + 1))
            px = _position(args, right, args.column_mult, args.column_offset, args.column_shift, args.width)
            py = _position(args, down, args.row_mult, args.row_offset, args.row_shift, args.height)
            for start in range(0, channels, BLOCK):
                n = min(channels - start, BLOCK)
                if args.linear:
                    column, g = px >> _POSITION_BITS, (px & mask) << (_WEIGHT_BITS - _POSITION_BITS)
                    row, f = py >> _POSITION_BITS, (py & mask) << (_WEIGHT_BITS - _POSITION_BITS)
                    _pixel(args, v0, image, row, column, start, n)
                    _pixel(args, v1, image, row, column + 1, start, n)
                    _pixel(args, v2, image, row + 1, column, start, n)
                    _pixel(args, v3, image, row + 1, column + 1, start, n)
                    for i in range(n):
                        above = _between(ld(v0, i), ld(v1, i), g, _ACROSS)
                        below = _between(ld(v2, i), ld(v3, i), g, _ACROSS)
                        st(v0, i, _between(above, below, f, _WEIGHT_BITS) * mult)
                else:
                    column, row = rhe_shift(px, _POSITION_BITS), rhe_shift(py, _POSITION_BITS)
                    _pixel(args, v0, image, row, column, start, n)
                    for i in range(n):
                        st(v0, i, ld(v0, i) * mult)
                requantize(v0, n, args.shift, args.zero, args.lo, args.hi)
                narrow(args.y + (point * channels + start) * args.y_kind, args.y_kind, v0, n)


@kernel
def cumsum(args: Cumsum, lo: int, hi: int, scratch: Any) -> None:
    """Units are (a, block of b) of x [a, length, b]; when b is 1 they are rows."""
    x_kind, y_kind, inner, length = args.x_kind, args.y_kind, args.inner, args.length
    total, v = scratch_block(scratch, 0), scratch_block(scratch, 1)
    for unit in range(lo, hi):
        outer, start = unit // args.per_row, (unit % args.per_row) * BLOCK
        n = BLOCK if inner == 1 else min(inner - start, BLOCK)
        for i in range(n):
            st(total, i, int64(0))
        step = n if inner == 1 else 1
        for first in range(0, length, step):
            count = min(length - first, step)
            r = length - first - count if args.reverse else first
            at = (outer * length + r) * inner + start
            size = count if inner == 1 else n
            widen(v, args.x + at * x_kind, x_kind, 1, size)
            if inner == 1:
                _run_along(args, total, v, size)
            else:
                _run_across(args, total, v, size)
            requantize(v, size, args.shift, args.zero, args.lo, args.hi)
            narrow(args.y + at * y_kind, y_kind, v, size)


@helper
def _run_across(args: Cumsum, total: Any, v: Any, n: int) -> None:
    """A step of n sums, side by side."""
    for i in range(n):
        before = ld(total, i)
        after = before + ld(v, i) - args.x_zero
        st(total, i, after)
        st(v, i, _of_int32(before if args.exclusive else after) * args.mult)


@helper
def _run_along(args: Cumsum, total: Any, v: Any, n: int) -> None:
    """One sum over n elements, which goes on in the next block."""
    after = ld(total, 0)
    for i in range(n):
        at = n - 1 - i if args.reverse else i
        before = after
        after += ld(v, at) - args.x_zero
        st(v, at, _of_int32(before if args.exclusive else after) * args.mult)
    st(total, 0, after)


@helper
def _of_int32(total: Any) -> Any:
    return min(max(total, int64(-(2**31))), int64(2**31 - 1))


@kernel
def places(args: Places, lo: int, hi: int, scratch: Any) -> None:
    """Units are (a, block of b) of x [a, length, b]; when b is 1 they are rows."""
    x_kind, inner, length = args.x_kind, args.inner, args.length
    best, at, v = scratch_block(scratch, 0), scratch_block(scratch, 1), scratch_block(scratch, 2)
    for unit in range(lo, hi):
        outer, start = unit // args.per_row, (unit % args.per_row) * BLOCK
        n = min(inner - start, BLOCK)
        base = args.x + (outer * length * inner + start) * x_kind
        for i in range(n):
            st(best, i, -(int64(1) << 40))
            st(at, i, int64(0))
        step = BLOCK if inner == 1 else 1
        for r in range(0, length, step):
            count = min(length - r, step)
            widen(v, base + r * inner * x_kind, x_kind, 1, count if inner == 1 else n)
            if inner == 1:
                for i in range(count):
                    _better(args, best, at, 0, ld(v, i), r + i)
            else:
                for i in range(n):
                    _better(args, best, at, i, ld(v, i), r)
        _indices(args.y + (outer * inner + start) * args.y_kind, args.y_kind, at, n)


@helper
def _better(args: Places, best: Any, at: Any, i: int, x: int, r: int) -> None:
    """Keep x, and its place r, if none before it was larger, or as large and the first is wanted."""
    x = x * args.sign
    if x + args.last > ld(best, i):
        st(best, i, x)
        st(at, i, int64(r))


@helper
def _indices(y: int, kind: int, block: Any, n: int) -> None:
    if kind == 8:
        for i in range(n):
            st(p64(y), i, ld(block, i))
    else:
        narrow(y, kind, block, n)
