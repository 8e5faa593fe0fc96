"""MatMul as steps: b is packed by a step of its own, then come the tiles of a convolution."""

from __future__ import annotations

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.arch.dtypes import DType
from openbpu.arch.program import MatMul
from openbpu.simulator.fast.conv.arguments import GROUP, Block, Gemm, WidenWords
from openbpu.simulator.fast.conv.tiles import Runs, tile_symbols, tile_units
from openbpu.simulator.fast.declaration import Table
from openbpu.simulator.fast.layer.arguments import PARAM_BYTES, Out
from openbpu.simulator.fast.layer.requant import Requant, choose_finish
from openbpu.simulator.fast.matmul.arguments import MatmulAny, PackB
from openbpu.simulator.fast.plan.registry import VECTOR, lowers
from openbpu.simulator.fast.plan.steps import Lowering, Place, Saturations


@lowers(MatMul, "conv", "matmul", VECTOR)
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
    made = MatmulAny(
        a=low.read(a), a_kind=low.kind(a), b=low.read(b), b_kind=low.kind(b), y=low.write(y),
        y_kind=low.kind(y), rows=op.m, depth=op.k, columns=op.n, a_shared=int(op.a_batch == 1),
        b_shared=int(op.b_batch == 1), transposed=int(op.b_transposed), a_zero=op.a_zero, b_zero=op.b_zero,
        mult=op.mult, offset=op.offset, shift=op.shift, zero=op.zero, lo=op.lo, hi=op.hi,
        table=low.table(op.table_id), raw=int(op.raw), saturations=Saturations(),
    )  # fmt: skip
    low.add(made, batches * op.m, batches * op.m * op.k * op.n * 0.5)


def _tiled(op: MatMul, low: Lowering) -> None:
    a, b = op.inputs
    words = low.mode == "portable" or DType.INT16 in (low.dtype(a), low.dtype(b)) or op.b_zero != 0
    word = 2 if words else 4
    source, kind = low.read(a), low.kind(a)
    if words and kind == 1:
        count = op.a_batch * op.m * op.k
        wide = low.temporary(2 * count)
        low.add(WidenWords(x=source, y=wide), count, count * 0.1)
        source, kind = wide, 2
    groups, steps = -(-op.n // GROUP), -(-op.k // word)
    packed = low.temporary(op.b_batch * groups * steps * 64)
    init = low.temporary(op.b_batch * groups * 64)
    made = PackB(
        b=low.read(b), b_kind=low.kind(b), depth=op.k, columns=op.n, transposed=int(op.b_transposed),
        packed=packed, init=init, word=word, b_zero=op.b_zero, lift=op.a_zero + (0 if words else 128),
    )  # fmt: skip
    low.add(made, op.b_batch * groups, op.b_batch * op.n * op.k * 1.0)
    _tiles(op, low, (source, kind), (packed, init), words=words)


def _tiles(op: MatMul, low: Lowering, a: tuple[Place, int], b: tuple[Place, Place], *, words: bool) -> None:
    """Blocks of one group of 16 columns, since pack_b packs by groups; a row of a is one tap."""
    word, kind, y = 2 if words else 4, low.kind(op.outputs[0]), op.outputs[0]
    groups, steps = -(-op.n // GROUP), -(-op.k // word)
    requant = _requant(op, low)
    lookup = low.constant(op.table_id) if op.table_id >= 0 else None
    finish = choose_finish(requant, low.mode, 0, kind, lookup)
    batch, group = (axis.reshape(-1) for axis in np.indices((max(op.a_batch, op.b_batch), groups)))
    b_block = (batch if op.b_batch > 1 else 0) * groups + group
    blocks = Table.columns(
        Block, x=batch * (op.m * op.k * a[1] if op.a_batch > 1 else 0),
        y=(batch * op.m * op.n + group * GROUP) * kind, r=0, weights=b_block * steps * 64, init=b_block * 64,
        params=group * PARAM_BYTES, channels=np.minimum(GROUP, op.n - group * GROUP), groups=1,
    )  # fmt: skip
    start = np.zeros(1, dtype=np.int64)
    units = tile_units([1] * len(blocks), Runs(start, start, op.m, 1), low.mode)
    out = Out(
        epilogue=0 if op.raw else finish.symbol, consts=finish.consts, y=low.write(y),
        y_pitch=op.n * kind, y_kind=kind, r=0, r_pitch=0,
        table=0 if finish.table is None else finish.table, y_pixel=op.n * kind, r_pixel=0,
    )  # fmt: skip
    made = Gemm(
        x=a[0], offsets=(np.arange(op.m) * (op.k * a[1])).astype(np.int32), pixels=op.m, taps=1, steps=steps,
        units=units, blocks=blocks, tiles=tile_symbols(low, words=words), weights=b[0],
        init=b[1], params=requant.params(real=finish.real), out=out,
    )  # fmt: skip
    low.add(made, len(units), max(op.a_batch, op.b_batch) * op.m * op.n * op.k * 0.01)


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
