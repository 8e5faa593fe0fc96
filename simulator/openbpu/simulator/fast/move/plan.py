"""Move, Pad, Concat and Gather as steps."""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from openbpu.arch.program import Concat, Gather, Move, Pad, Rescale
from openbpu.arch.shapes import Ints, collapse, dense_strides
from openbpu.simulator.fast.elementwise.plan import add_rescale
from openbpu.simulator.fast.jit.cpu import permutes_bytes
from openbpu.simulator.fast.move import arguments
from openbpu.simulator.fast.plan.registry import VECTOR, lowers
from openbpu.simulator.fast.plan.steps import Lowering, Place, Symbol
from openbpu.simulator.fast.scratch import CHUNK


def add_move(
    low: Lowering, x: Place, y: Place, kind: int, shape: Ints, x_strides: Ints, y_strides: Ints
) -> None:
    """Append y[Σ i·y_strides] = x[Σ i·x_strides] for i over `shape`."""
    sizes, (xs, ys) = collapse(shape, (x_strides, y_strides), least=1)
    if len(sizes) == 1 and xs[0] == 1 and ys[0] == 1:  # one long copy: let threads share it
        rows = next((n for n in (64, 32, 16, 8, 4, 2) if sizes[0] % n == 0 and sizes[0] >= 4096 * n), 1)
        width = sizes[0] // rows
        sizes, xs, ys = (rows, 1, width), (width, 0, 1), (width, 0, 1)
    if len(sizes) == 2:  # cut rows, so that threads can share them
        parts = next((n for n in range(64, 0, -1) if sizes[0] % n == 0), 1)
        sizes = (parts, sizes[0] // parts, sizes[1])
        xs, ys = (xs[0] * sizes[1], *xs), (ys[0] * sizes[1], *ys)
    while len(sizes) < 3:
        sizes, xs, ys = (1, *sizes), (0, *xs), (0, *ys)
    units = int(np.prod(sizes[:-2], dtype=np.int64))
    total = int(np.prod(sizes, dtype=np.int64))
    walk, from_x, to_y = (np.array(v, dtype=np.int64) for v in (sizes, xs, ys))
    each = 0.1 * kind if xs[-1] == 1 and ys[-1] == 1 else 0.7
    made = arguments.Move(x=x, y=y, size=kind, rank=len(sizes), shape=walk, x_strides=from_x, y_strides=to_y)
    low.add(made, units, total * each)


@lowers(Move, "move", VECTOR)
def lower_move(op: Move, low: Lowering) -> None:
    """A walk over x."""
    (x,), (y,) = op.inputs, op.outputs
    kind = low.kind(x)
    source = low.read(x)
    start = Place(source.buffer, source.offset + op.offset * kind)
    sizes, (strides,) = collapse(op.shape, (op.strides,), least=1)
    if kind == 1 and interleave_packed(low, start, y, sizes, strides):
        return
    add_move(low, start, low.write(y), kind, op.shape, op.strides, dense_strides(op.shape))


def interleave_packed(low: Lowering, start: Place, y: int, sizes: Ints, strides: Ints) -> bool:
    """Three planes become pixels of three bytes by move.vector64; returns whether they did."""
    if low.mode != "vnni512" or not permutes_bytes() or sizes[1:] != (3,) or strides != (1, sizes[0]):
        return False
    made = arguments.Interleave(code=Symbol("interleave3"), x=start, plane=sizes[0], y=low.write(y))
    low.add(made, -(-sizes[0] // CHUNK), sizes[0] * 0.2)
    return True


def add_fill(low: Lowering, y: Place, kind: int, count: int, value: int) -> None:
    """Append y[..] = value."""
    low.add(arguments.Fill(y=y, size=kind, value=value), count, count * 0.05 * kind)


def add_pad(
    low: Lowering, x: Place, y: Place, kind: int, shape: Ints, before: Ints, after: Ints, value: int
) -> None:
    """Append y = x inside a border."""
    whole = tuple(b + n + a for b, n, a in zip(before, shape, after, strict=True))
    strides = dense_strides(whole)
    add_fill(low, y, kind, int(np.prod(whole, dtype=np.int64)), value)
    inside = sum(b * s for b, s in zip(before, strides, strict=True))
    add_move(low, x, Place(y.buffer, y.offset + inside * kind), kind, shape, dense_strides(shape), strides)


@lowers(Pad, "move")
def lower_pad(op: Pad, low: Lowering) -> None:
    """Fill, then copy."""
    (x,), (y,) = op.inputs, op.outputs
    add_pad(low, low.read(x), low.write(y), low.kind(x), op.shape, op.before, op.after, op.value)


@lowers(Concat, "move", "elementwise", VECTOR)
def lower_concat(op: Concat, low: Lowering) -> None:
    """Each input fills its columns, copied or rescaled."""
    (y,) = op.outputs
    pitch = sum(op.sizes)
    columns = [0, *accumulate(op.sizes)]
    for i, x in enumerate(op.inputs):
        size, column = op.sizes[i], columns[i]
        if op.mults[i] == 0:
            target, kind = low.write(y), low.kind(y)
            place = Place(target.buffer, target.offset + column * kind)
            add_move(low, low.read(x), place, kind, (op.outer, size), (size, 1), (pitch, 1))
            continue
        part = Rescale(
            inputs=(x,), outputs=op.outputs, x_zero=op.x_zeros[i], mult=op.mults[i], shift=op.shifts[i],
            zero=op.zero, lo=op.lo, hi=op.hi,
        )  # fmt: skip
        add_rescale(part, low, op.outer, size, pitch, column)


@lowers(Gather, "move")
def lower_gather(op: Gather, low: Lowering) -> None:
    """Rows by index."""
    (x,), (y,) = op.inputs, op.outputs
    outer, rows, inner = op.shape
    indices = low.constant(op.indices_id).astype(np.int32).reshape(-1)
    row_bytes = inner * low.kind(x)
    units = outer * indices.size
    made = arguments.Gather(
        x=low.read(x), y=low.write(y), row_bytes=row_bytes, rows=rows, count=indices.size, indices=indices
    )
    low.add(made, units, units * (2.0 + row_bytes * 0.1))
