"""CumSum."""

from __future__ import annotations

import numpy as np

from arch.samples import SAMPLES, SHAPE, C, H, N, W
from compiler.breaking import BREAKING, Breaking, Limits
from compiler.networks import Network
from compiler.one_operator import ended
from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.isa import Instr
from openbpu.arch.operators.reduce import CumSum, CumSumTile
from openbpu.arch.program import Operator
from openbpu.simulator.fast.scratch import BLOCK
from simulator.build import Build
from simulator.coder import At, Coder, dense
from simulator.drawing import Rng, bounds, chance, drawn, factor, narrow_dtype, pick, zero_point
from simulator.oracle import RUN, Array, Oracle
from simulator.tiles import TILES
from witness.builder import GraphBuilder
from witness.emit.registry import emitter
from witness.recipes import RECIPES, Recipe
from witness.variations import VARIATIONS


@RUN.of(CumSum)
def formula(op: CumSum, o: Oracle) -> Array:
    x = o.wide(op.inputs[0]).reshape(op.shape) - op.x_zero
    y = np.zeros(op.shape, np.int64)
    for r in range(op.shape[1]):
        y[:, r] = (x[:, r + op.exclusive :] if op.reverse else x[:, : r + 1 - op.exclusive]).sum(axis=1)
    o.saturations += int((np.abs(y) > 2**31 - 1).sum())
    return numerics.requantize(np.clip(y, -(2**31), 2**31 - 1) * op.mult, op.shift, op.zero, op.lo, op.hi)


@TILES.of(CumSum)
def tile(c: Coder, op: CumSum, at: At, y: int) -> list[Instr]:
    x, out = op.inputs[0], op.outputs[0]
    strides = [dense(op.shape, c.size(t)) for t in (x, out)]
    return [
        CumSumTile(
            operator=c.index, x=at[x], y=y, counts=op.shape, x_strides=strides[0], y_strides=strides[1]
        )
    ]


@drawn(CumSum)
def cumsum(rng: Rng, b: Build) -> Operator:
    shape = (pick(rng, (1, 3)), pick(rng, (1, 7, 40, BLOCK + 3)), pick(rng, (1, 1, 5)))
    x_dtype, y_dtype = narrow_dtype(rng), narrow_dtype(rng)
    mult, shift = factor(rng, float(x_dtype.qmax) * shape[1], y_dtype)
    return CumSum(
        inputs=(b.input(shape, x_dtype),), outputs=(b.tensor(shape, y_dtype),), shape=shape,
        exclusive=chance(rng, 0.5), reverse=chance(rng, 0.5), x_zero=zero_point(rng, x_dtype), mult=mult,
        shift=shift, **bounds(rng, y_dtype),
    )  # fmt: skip


@SAMPLES.of(CumSum)
def sample(b: Build, x: int) -> Operator:
    return CumSum(inputs=(x,), outputs=(b.tensor(SHAPE, DType.INT8),), shape=(N, H * W, C), mult=1, shift=3)


@emitter("CumSum")
def emit(b: GraphBuilder, x: str, *, axis: int = 1, exclusive: int = 0, reverse: int = 0) -> tuple[str, ...]:
    return (b.node("CumSum", x, b.constant(np.array(axis)), exclusive=exclusive, reverse=reverse),)


RECIPES["CumSum"] = Recipe(
    lambda s: {
        "axis": s.integer(0, len(s.shape) - 1),
        "exclusive": s.integer(0, 1),
        "reverse": s.integer(0, 1),
    },
    applies=lambda shape, _: len(shape) > 0,
)
VARIATIONS["CumSum"] = {
    "channels": {},
    "last": {"axis": -1},
    "exclusive": {"exclusive": 1},
    "reverse": {"reverse": 1, "axis": 2},
    "both": {"exclusive": 1, "reverse": 1, "axis": -1},
    "first, of one": {"axis": 0},
    "vector": {"shape": (40,), "axis": 0},
    "five axes": {"shape": (2, 3, 4, 3, 2), "axis": 2},
    "widened": {"output": "int16", "axis": -1},
}


def _longest(limits: Limits) -> Breaking:
    n = limits["cumsum_axis_max"] + 1
    b = Network((1, n))
    return ended(b, emit(b, b.x)[0]), f"{n}"


BREAKING["CumSum"] = {"cumsum_axis_max": (_longest, {})}
