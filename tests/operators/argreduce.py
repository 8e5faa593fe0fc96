"""ArgReduce: ArgMax and ArgMin."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from arch.samples import SAMPLES, C, H, N, W
from compiler.breaking import BREAKING, Breaking, Build, Limits
from compiler.networks import Network
from compiler.one_operator import ended
from openbpu.arch.dtypes import DType
from openbpu.arch.isa import Instr
from openbpu.arch.operators.reduce import PLACES, ArgReduce, ArgReduceTile
from openbpu.arch.program import Operator
from openbpu.simulator.fast.scratch import BLOCK
from simulator import build as simulated
from simulator.coder import At, Coder, dense
from simulator.drawing import Rng, chance, drawn, narrow_dtype, pick
from simulator.oracle import RUN, Array, Oracle
from simulator.tiles import TILES
from witness.builder import GraphBuilder
from witness.emit.registry import emitter
from witness.recipes import RECIPES, Recipe, Site
from witness.variations import VARIATIONS


@RUN.of(ArgReduce)
def formula(op: ArgReduce, o: Oracle) -> Array:
    x = o.wide(op.inputs[0]).reshape(op.shape)
    best, y = x[:, 0].copy(), np.zeros((op.shape[0], op.shape[2]), np.int64)
    for r in range(1, op.shape[1]):
        better = x[:, r] > best if op.fn == "max" else x[:, r] < best
        if op.last:
            better |= x[:, r] == best
        best, y = np.where(better, x[:, r], best), np.where(better, r, y)
    return y


@TILES.of(ArgReduce)
def tile(c: Coder, op: ArgReduce, at: At, y: int) -> list[Instr]:
    x, out = op.inputs[0], op.outputs[0]
    a, _, b = op.shape
    x_strides, y_strides = dense(op.shape, c.size(x)), dense((a, b), c.size(out))
    return [
        ArgReduceTile(
            operator=c.index, x=at[x], y=y, counts=op.shape, x_strides=x_strides, y_strides=y_strides
        )
    ]


@drawn(ArgReduce)
def arg_reduce(rng: Rng, b: simulated.Build) -> Operator:
    shape = (pick(rng, (1, 3)), pick(rng, (1, 7, 40, BLOCK + 3)), pick(rng, (1, 1, 5, BLOCK + 1)))
    fit = [dtype for dtype in PLACES if dtype.qmax >= shape[1] - 1]
    y = b.tensor((shape[0], shape[2]), fit[pick(rng, tuple(range(len(fit))))])
    return ArgReduce(
        inputs=(b.input(shape, narrow_dtype(rng)),), outputs=(y,), shape=shape,
        fn="max" if chance(rng, 0.5) else "min", last=chance(rng, 0.5),
    )  # fmt: skip


@SAMPLES.of(ArgReduce)
def sample(b: simulated.Build, x: int) -> Operator:
    y = b.tensor((N, C), DType.INT64)
    return ArgReduce(inputs=(x,), outputs=(y,), shape=(N, H * W, C), fn="max", last=True)


@emitter("ArgMax", "ArgMin")
def emit(
    b: GraphBuilder, x: str, *, op: str = "ArgMax", axis: int = 1, keepdims: int = 1, last: int = 0
) -> tuple[str, ...]:
    """Indices as floats."""
    found = b.node(op, x, axis=axis, keepdims=keepdims, select_last_index=last)
    return (b.node("Cast", found, to=TensorProto.FLOAT),)


def _drawn(s: Site) -> dict[str, Any]:
    axis = s.integer(0, len(s.shape) - 1)
    return {"axis": axis, "keepdims": s.integer(0, 1), "last": s.integer(0, 1)}


def _longest(op: str) -> Build:
    def build(limits: Limits) -> Breaking:
        n = limits["arg_axis_max"] + 1
        b = Network((1, n))
        return ended(b, emit(b, b.x, op=op)[0]), f"{n}"

    return build


def _elsewhere(op: str) -> Build:
    def build(_: Limits) -> Breaking:
        b = Network((1, 3, 4))
        return ended(b, emit(b, b.x, op=op, axis=2)[0]), "2"

    return build


for _op in ("ArgMax", "ArgMin"):
    RECIPES[_op] = Recipe(_drawn, applies=lambda shape, _: len(shape) > 0)
    VARIATIONS[_op] = {
        "channels": {},
        "dropped": {"keepdims": 0},
        "width": {"axis": -1, "keepdims": 0},
        "last of equal": {"last": 1},
        "last of rows": {"last": 1, "axis": 2},
        "one": {"axis": 0},
        "vector": {"shape": (40,), "axis": 0},
        "five axes": {"shape": (2, 3, 4, 3, 2), "axis": 2, "keepdims": 0},
    }
    BREAKING[_op] = {
        "arg_axis_max": (_longest(_op), {}),
        "arg_axis_only": (_elsewhere(_op), {"arg_axis_only": 1}),
    }
