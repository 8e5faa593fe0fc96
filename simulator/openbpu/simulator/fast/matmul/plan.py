"""MatMul as steps: b is packed by a step of its own, then come the tiles of a convolution."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openbpu.arch.dtypes import DType
from openbpu.arch.program import MatMul
from openbpu.simulator.fast.lower.requant import Requant, choose_finish
from openbpu.simulator.fast.lower.steps import Argument, Lowering, Place, Saturations
from openbpu.simulator.fast.lower.tiles import Unit, tile_symbols, tile_units

Int64 = npt.NDArray[np.int64]


def lower_matmul(op: MatMul, low: Lowering) -> None:
    """Choose between the micro-kernels and the slow way, which takes anything."""
    kinds = {low.dtype(t) for t in op.inputs}
    fits = abs(op.mult) < 2**31 and not op.wide and (op.b_zero == 0 or low.dtype(op.inputs[1]) is DType.INT8)
    if kinds <= {DType.INT8, DType.INT16} and kinds != {DType.INT16} and fits:
        _tiled(op, low)
        return
    _any(op, low)


def _any(op: MatMul, low: Lowering) -> None:
    (a, b), (y,) = op.inputs, op.outputs
    batches = max(op.a_batch, op.b_batch)
    table = np.ascontiguousarray(low.constant(op.table_id)) if op.table_id >= 0 else 0
    arguments: tuple[Argument, ...] = (
        low.read(a), low.kind(a), low.read(b), low.kind(b), low.write(y), low.kind(y), op.m, op.k, op.n,
        int(op.a_batch == 1), int(op.b_batch == 1), int(op.b_transposed), op.a_zero, op.b_zero,
        op.mult, op.offset, op.shift, op.zero, op.lo, op.hi, table, int(op.raw), Saturations(),
    )  # fmt: skip
    macs = batches * op.m * op.k * op.n
    low.add("matmul_any", batches * op.m, arguments, macs * 0.5)


def _tiled(op: MatMul, low: Lowering) -> None:
    a, b = op.inputs
    words = low.mode == "portable" or DType.INT16 in (low.dtype(a), low.dtype(b)) or op.b_zero != 0
    word = 2 if words else 4
    source, kind = low.read(a), low.kind(a)
    if words and kind == 1:
        count = op.a_batch * op.m * op.k
        wide = low.temporary(2 * count)
        low.add("widen_words", count, (source, wide), count * 0.1)
        source, kind = wide, 2
    groups, steps = -(-op.n // 16), -(-op.k // word)
    packed = low.temporary(op.b_batch * groups * steps * 64)
    init = low.temporary(op.b_batch * groups * 64)
    minus = op.a_zero + (0 if words else 128)
    arguments: tuple[Argument, ...] = (
        low.read(b), low.kind(b), op.k, op.n, int(op.b_transposed), packed, init, word, op.b_zero, minus,
    )  # fmt: skip
    low.add("pack_b", op.b_batch * groups, arguments, op.b_batch * op.n * op.k * 1.0)
    _tiles(op, low, (source, kind), (packed, init), words=words)


def _tiles(op: MatMul, low: Lowering, a: tuple[Place, int], b: tuple[Place, Place], *, words: bool) -> None:
    """Blocks of one group of 16 columns, since pack_b packs by groups; a row of a is one tap."""
    word, kind, y = 2 if words else 4, low.kind(op.outputs[0]), op.outputs[0]
    groups, steps = -(-op.n // 16), -(-op.k // word)
    requant = _requant(op, low)
    lookup = low.constant(op.table_id) if op.table_id >= 0 else None
    finish = choose_finish(requant, low.mode, 0, kind, lookup)
    table: list[tuple[int, ...]] = []
    units: list[Unit] = []
    for batch in range(max(op.a_batch, op.b_batch)):
        b_batch = batch if op.b_batch > 1 else 0
        a_at = batch * op.m * op.k * a[1] if op.a_batch > 1 else 0
        for group in range(groups):
            block = b_batch * groups + group
            channels = min(16, op.n - group * 16)
            y_at = (batch * op.m * op.n + group * 16) * kind
            units += tile_units(len(table), 1, [(0, op.m, 0)], low.mode)
            table.append((a_at, y_at, 0, block * steps * 64, block * 64, group * 512, channels, 1))
    offsets = (np.arange(op.m) * (op.k * a[1])).astype(np.int32)
    arguments: tuple[Argument, ...] = (
        a[0], offsets, op.m, 1, steps, np.array(units, dtype=np.int32), np.array(table, dtype=np.int64),
        tile_symbols(low, words=words), b[0], b[1], requant.params(real=finish.real), 0, 0, Saturations(),
        0 if op.raw else finish.symbol, finish.consts, low.write(y), op.n * kind, kind, 0, 0,
        0 if finish.table is None else finish.table, op.n * kind, 0,
    )  # fmt: skip
    low.add("gemm", len(units), arguments, max(op.a_batch, op.b_batch) * op.m * op.n * op.k * 0.01)


def _requant(op: MatMul, low: Lowering) -> Requant:
    reach = op.k
    for tensor, zero in zip(op.inputs, (op.a_zero, op.b_zero), strict=True):
        dtype = low.dtype(tensor)
        reach *= max(abs(dtype.qmin - zero), abs(dtype.qmax - zero))

    def all_columns(value: int) -> Int64:
        return np.full(op.n, value, dtype=np.int64)

    return Requant(
        all_columns(op.mult), all_columns(op.offset), all_columns(op.shift), all_columns(0),
        all_columns(min(reach, 2**31)), 0, op.zero, op.lo, op.hi,
    )  # fmt: skip
