"""Blocks of int64 in scratch memory: what every element-wise operator is made of.

A kernel widens a block of its inputs to int64 whatever their dtype, computes there, requantizes and narrows
the block to the dtype of the output: each operator is written once, and every loop vectorises. Element kinds
are their sizes in bytes: 1 = int8, 2 = int16, 4 = int32.
"""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.language.lang import helper, int8, int16, int32, int64
from openbpu.simulator.fast.language.pointers import address_of, ld, p8, p16, p32, p64, st
from openbpu.simulator.fast.scratch import BLOCK


@helper
def widen(out: Any, x: int, kind: int, stride: int, n: int) -> None:
    """out[i] = x[i·stride] for i < n; x is the address of the first element."""
    if stride == 1:
        _widen_dense(out, x, kind, n)
        return
    if kind == 1:
        for i in range(n):
            st(out, i, int64(ld(p8(x), i * stride)))
    elif kind == 2:
        for i in range(n):
            st(out, i, int64(ld(p16(x), i * stride)))
    else:
        for i in range(n):
            st(out, i, int64(ld(p32(x), i * stride)))


@helper
def _widen_dense(out: Any, x: int, kind: int, n: int) -> None:
    if kind == 1:
        for i in range(n):
            st(out, i, int64(ld(p8(x), i)))
    elif kind == 2:
        for i in range(n):
            st(out, i, int64(ld(p16(x), i)))
    else:
        for i in range(n):
            st(out, i, int64(ld(p32(x), i)))


@helper
def narrow(y: int, kind: int, block: Any, n: int) -> None:
    """y[i] = block[i] for i < n, in the dtype of y; the values fit."""
    if kind == 1:
        for i in range(n):
            st(p8(y), i, int8(ld(block, i)))
    elif kind == 2:
        for i in range(n):
            st(p16(y), i, int16(ld(block, i)))
    else:
        for i in range(n):
            st(p32(y), i, int32(ld(block, i)))


@helper
def rhe_shift(x: int, shift: int) -> Any:
    """numerics.round_shift of one value: half − 1 + odd rounds exactly half to the even neighbour."""
    if shift == 0:
        return x
    return (x + ((int64(1) << (shift - 1)) - 1 + ((x >> shift) & 1))) >> shift


@helper
def requantize(block: Any, n: int, shift: int, zero: int, lo: int, hi: int) -> None:
    """numerics.requantize in place. The rounding term is kept out of the loop, which has no branch."""
    half = int64(0)
    odd = int64(0)
    if shift > 0:
        half = (int64(1) << (shift - 1)) - 1
        odd = int64(1)
    for i in range(n):
        x = ld(block, i)
        x = ((x + (half + ((x >> shift) & odd))) >> shift) + zero
        st(block, i, min(max(x, lo), hi))


@helper
def look_up(block: Any, n: int, table: int, kind: int) -> None:
    """block[i] = table[block[i] + 128]; a table of 0 changes nothing."""
    if table == 0:
        return
    if kind == 1:
        for i in range(n):
            st(block, i, int64(ld(p8(table), ld(block, i) + 128)))
    elif kind == 2:
        for i in range(n):
            st(block, i, int64(ld(p16(table), ld(block, i) + 128)))
    else:
        for i in range(n):
            st(block, i, int64(ld(p32(table), ld(block, i) + 128)))


@helper
def copy_bytes(y: int, x: int, n: int) -> None:
    """Copy n bytes (memcpy)."""
    for i in range(n):
        st(p8(y), i, ld(p8(x), i))


@helper
def outer_offset(outer: int, rank: int, shape: Any, strides: Any) -> Any:
    """Element offset of the outer-th row, the axes before the last counted row-major."""
    offset = int64(0)
    for axis in range(rank - 2, -1, -1):
        size = ld(shape, axis)
        offset += (outer % size) * ld(strides, axis)
        outer = outer // size
    return offset


@helper
def scratch_block(scratch: Any, index: int) -> Any:
    """The index-th int64 block of the thread's scratch memory."""
    return p64(address_of(scratch) + index * BLOCK * 8)
