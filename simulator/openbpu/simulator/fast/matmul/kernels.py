"""MatMul: packing b, and sums of products in 64 bits for what the micro-kernels do not take."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.language.blocks import look_up, narrow, requantize, scratch_block, widen
from openbpu.simulator.fast.language.lang import helper, int8, int16, int32, int64
from openbpu.simulator.fast.language.pointers import atomic_add, ld, p8, p16, st
from openbpu.simulator.fast.language.records import kernel
from openbpu.simulator.fast.layer.arguments import LANES
from openbpu.simulator.fast.matmul.arguments import MatmulAny, PackB
from openbpu.simulator.fast.scratch import BLOCK

_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1


@kernel
def pack_b(args: PackB, lo: int, hi: int, scratch: Any) -> None:  # noqa: ARG001 - as every kernel
    """Units are (batch, group of 16 columns)."""
    kind, depth, columns, word, b_zero = args.b_kind, args.depth, args.columns, args.word, args.b_zero
    groups, steps = (columns + LANES - 1) // LANES, (depth + word - 1) // word
    k_step, n_step = (1, depth) if args.transposed else (columns, 1)
    for unit in range(lo, hi):
        batch, group = unit // groups, unit % groups
        b = args.b + batch * depth * columns * kind
        packed = args.packed + unit * steps * 64
        for lane in range(LANES):
            n = group * LANES + lane
            total = int64(0)
            for k in range(steps * word):
                v = int64(0)
                if n < columns and k < depth:
                    at = k * k_step + n * n_step
                    v = (int64(ld(p8(b), at)) if kind == 1 else int64(ld(p16(b), at))) - b_zero
                total += v
                place = ((k // word) * LANES + lane) * word + k % word
                if word == 4:
                    st(p8(packed), place, int8(v))
                else:
                    st(p16(packed), place, int16(v))
            st(args.init, unit * LANES + lane, int32(-args.lift * total))


@kernel
def matmul_any(args: MatmulAny, lo: int, hi: int, scratch: Any) -> None:
    """Units are rows of the output (all batches)."""
    a_kind, b_kind, y_kind = args.a_kind, args.b_kind, args.y_kind
    rows, depth, columns, b_zero = args.rows, args.depth, args.columns, args.b_zero
    k_step, n_step = (1, depth) if args.transposed else (columns, 1)
    total, v = scratch_block(scratch, 0), scratch_block(scratch, 1)
    for unit in range(lo, hi):
        batch = unit // rows
        a_row = (unit % rows) if args.a_shared else unit
        b = args.b + (0 if args.b_shared else batch) * depth * columns * b_kind
        for start in range(0, columns, BLOCK):
            n = min(columns - start, BLOCK)
            for i in range(n):
                st(total, i, int64(0))
            for k in range(depth):
                at = a_row * depth + k
                value = int64(ld(p8(args.a), at)) if a_kind == 1 else int64(ld(p16(args.a), at))
                value -= args.a_zero
                widen(v, b + (k * k_step + start * n_step) * b_kind, b_kind, n_step, n)
                for i in range(n):
                    st(total, i, ld(total, i) + value * (ld(v, i) - b_zero))
            _finish(args, total, n)
            narrow(args.y + (unit * columns + start) * y_kind, y_kind, total, n)


@helper
def _finish(args: MatmulAny, total: Any, n: int) -> None:
    count = int64(0)
    for i in range(n):
        v = ld(total, i)
        s = min(max(v, int64(_INT32_MIN)), int64(_INT32_MAX))
        count += int64(s != v)
        st(total, i, s)
    if count:
        atomic_add(args.saturations, 0, count)
    if args.raw:
        return
    for i in range(n):
        st(total, i, ld(total, i) * args.mult + args.offset)
    requantize(total, n, args.shift, args.zero, args.lo, args.hi)
    look_up(total, n, args.table, args.y_kind)
