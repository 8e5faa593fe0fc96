"""TopK."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from arch.samples import SAMPLES, C, H, N, W
from openbpu.arch.dtypes import DType
from openbpu.arch.isa import Instr
from openbpu.arch.operators.ranking import TopK, TopKTile
from openbpu.arch.operators.reduce import PLACES
from openbpu.arch.program import Operator
from simulator.build import Build
from simulator.coder import At, Coder, dense
from simulator.drawing import Rng, chance, drawn, narrow_dtype, pick
from simulator.oracle import RUN, Array, Oracle
from simulator.tiles import TILES
from witness.builder import GraphBuilder
from witness.emit.registry import emitter
from witness.recipes import RECIPES, Recipe, Site
from witness.variations import VARIATIONS


@RUN.of(TopK)
def formula(op: TopK, o: Oracle) -> Array:
    x = o.wide(op.inputs[0]).reshape(op.shape)
    sign = -1 if op.largest else 1
    made = np.zeros((op.shape[0], op.k, op.shape[2]), np.int64)
    for a, b in np.ndindex(op.shape[0], op.shape[2]):
        ranked = sorted((sign * int(v), r) for r, v in enumerate(x[a, :, b]))[: op.k]
        made[a, :, b] = [r if op.indices else sign * v for v, r in ranked]
    return made


@TILES.of(TopK)
def tile(c: Coder, op: TopK, at: At, y: int) -> list[Instr]:
    x, out = op.inputs[0], op.outputs[0]
    a, _, b = op.shape
    return [
        TopKTile(
            operator=c.index, x=at[x], y=y, counts=(*op.shape, op.k), x_strides=dense(op.shape, c.size(x)),
            y_strides=dense((a, op.k, b), c.size(out)),
        )
    ]  # fmt: skip


@drawn(TopK)
def top_k(rng: Rng, b: Build) -> Operator:
    shape = (pick(rng, (1, 3)), pick(rng, (1, 7, 40, 300)), pick(rng, (1, 5)))
    k = min(shape[1], pick(rng, (1, 3, 40)))
    x_dtype, indices = narrow_dtype(rng), chance(rng, 0.5)
    fit = [dtype for dtype in PLACES if dtype.qmax >= shape[1] - 1]
    y_dtype = fit[pick(rng, tuple(range(len(fit))))] if indices else x_dtype
    return TopK(
        inputs=(b.input(shape, x_dtype),), outputs=(b.tensor((shape[0], k, shape[2]), y_dtype),),
        shape=shape, k=k, largest=chance(rng, 0.5), indices=indices,
    )  # fmt: skip


@SAMPLES.of(TopK)
def sample(b: Build, x: int) -> Operator:
    y = b.tensor((N, 3, C), DType.INT64)
    return TopK(inputs=(x,), outputs=(y,), shape=(N, H * W, C), k=3, indices=True)


@emitter("TopK")
def emit(b: GraphBuilder, x: str, *, axis: int = 1, k: int = 2, largest: int = 1) -> tuple[str, ...]:
    """Elements, and their indices as floats."""
    count = b.constant(np.array([k], np.int64))
    elements, places = b.nodes("TopK", [x, count], 2, axis=axis, largest=largest)
    return elements, b.node("Cast", places, to=TensorProto.FLOAT)


def _drawn(s: Site) -> dict[str, Any]:
    axis = s.integer(0, len(s.shape) - 1)
    return {"axis": axis, "k": s.integer(1, s.shape[axis]), "largest": s.integer(0, 1)}


RECIPES["TopK"] = Recipe(_drawn, applies=lambda shape, _: len(shape) > 0 and min(shape) > 0)
VARIATIONS["TopK"] = {
    "channels": {},
    "rows": {"axis": -1, "k": 5},
    "smallest": {"axis": 2, "k": 3, "largest": 0},
    "all": {"k": 3},
    "one": {"axis": 0, "k": 1},
    "vector": {"shape": (40,), "axis": 0, "k": 7},
}
