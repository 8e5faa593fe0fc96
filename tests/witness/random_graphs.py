"""Hypothesis strategies for small QDQ models with inputs: chains and graphs that branch and join.

``qdq_models(ops={"Conv", "Add"}, max_nodes=3)`` draws ``(ModelProto, inputs)``. Structure is drawn
(and shrinks); tensor values come from a drawn seed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from witness.builder import GraphBuilder, Style
from witness.emit import EMITTERS, MIN_OPSET
from witness.recipes import RECIPES, Site
from witness.single_op import SINGLE_OP_CASES, Case, Model, single_op_model
from witness.variations import KEEPS_SCALE, STYLES

__all__ = ["CPU_OPS", "OPSETS", "SINGLE_OP_CASES", "Case", "Model", "qdq_models", "single_op_model"]

OPSETS = (13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24)
CPU_OPS = ("Sin", "Cos", "Atan")
"""Float operators put in the middle without quantizers around them."""
FAMILIES = (
    ("Conv", "Gemm", "MatMul"),
    ("Add", "Mul", "Concat"),
    ("Conv", "ConvTranspose"),
    ("Relu", "Clip", "Sigmoid", "LeakyRelu", "HardSwish", "SwishQdq"),
    ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize"),
    ("Reshape", "Transpose", "Slice", "Split", "Pad", "Flatten", "DepthToSpace", "SpaceToDepth"),
    (
        "Softmax",
        "LayerNormalization",
        "BatchNormalization",
        "ReduceMean",
        "ReduceSum",
        "ReduceMax",
        "ReduceL2",
    ),
    tuple(EMITTERS),
)
"""One is drawn before the operator, so that the many functions do not crowd out convolutions."""
FUSED = ("Relu", "Clip", "LeakyRelu", "HardSwish", "Add")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a caller allows."""

    ops: tuple[str, ...]
    styles: tuple[str, ...]
    float_nodes: bool
    fuse: bool
    mixed: bool


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a result comes from: the operator, its operand, and the tensors there were."""

    op: str
    x: str
    pool: tuple[str, ...]


def _rarely(draw: st.DrawFn, one_in: int) -> bool:
    """True once in ``one_in``, shrinking to False."""
    return draw(st.integers(1, one_in)) == one_in


def _style(draw: st.DrawFn, plan: _Plan) -> Style:
    style = STYLES[draw(st.sampled_from(plan.styles))]
    return replace(style, jitter=draw(st.sampled_from([0.0, 0.4])))


def _input_shape(draw: st.DrawFn, rank: int) -> tuple[int, ...]:
    """Odd small shapes: batch 1..3, a few channels, spatial axes up to 9."""
    batch = draw(st.integers(1, 3))
    if rank == 2:
        return (batch, draw(st.integers(1, 33)))
    return (batch, draw(st.integers(1, 8)), *(draw(st.integers(1, 9)) for _ in range(rank - 2)))


def _applicable(b: GraphBuilder, x: str, plan: _Plan) -> list[str]:
    value = b.values[x]
    if value.ndim == 0 or value.size == 0:
        return []
    magnitude = float(np.abs(value).max())
    return [
        op
        for op in plan.ops
        if MIN_OPSET.get(op, 0) <= b.opset and RECIPES[op].applies(value.shape, magnitude)
    ]


def _follow(draw: st.DrawFn, b: GraphBuilder, y: str, pool: tuple[str, ...]) -> str:
    """An operator behind y with no rounding between."""
    op = draw(st.sampled_from([f for f in FUSED if MIN_OPSET.get(f, 0) <= b.opset]))
    if op != "Add":
        return EMITTERS[op](b, y)[0]
    same = [n for n in pool if b.shape(n) == b.shape(y)]
    return b.node("Add", y, draw(st.sampled_from(same))) if same else b.node("Relu", y)


def _grow(draw: st.DrawFn, b: GraphBuilder, pool: list[str], plan: _Plan) -> None:
    """Add one operator behind a tensor of the pool, most often the last."""
    x = pool[-1] if draw(st.integers(0, 2)) < 2 else draw(st.sampled_from(pool))
    ops = _applicable(b, x, plan)
    if not ops:
        return
    families = [f for f in (tuple(op for op in ops if op in family) for family in FAMILIES) if f]
    op = draw(st.sampled_from(draw(st.sampled_from(families))))
    again = b.dequantize_again(x) if _rarely(draw, 6) else x
    site = Site(draw, b, again, tuple(pool))
    for y in EMITTERS[op](b, again, **RECIPES[op].arguments(site)):
        pool.append(_finish(draw, b, y, _Origin(op, again, tuple(pool)), plan))


def _finish(draw: st.DrawFn, b: GraphBuilder, y: str, origin: _Origin, plan: _Plan) -> str:
    """What comes behind a result before others read it: mostly Q and DQ alone."""
    plain = y
    if plan.fuse and _rarely(draw, 4):
        y = _follow(draw, b, y, origin.pool)
    if plan.float_nodes and _rarely(draw, 10):
        y = b.node(draw(st.sampled_from(CPU_OPS)), y)
    if plan.float_nodes and _rarely(draw, 12):
        return y
    if plan.mixed and _rarely(draw, 6):
        return b.qdq(y, _style(draw, plan))
    moved = y == plain and origin.op in KEEPS_SCALE and origin.x in b.parameters
    keep = moved and not _rarely(draw, 4)
    style = replace(b.style, spread=draw(st.sampled_from([1.0, 0.7])))
    return b.qdq(y, style, like=origin.x if keep else None)


@st.composite
def qdq_models(
    draw: st.DrawFn,
    *,
    ops: Collection[str] | None = None,
    min_nodes: int = 1,
    max_nodes: int = 6,
    styles: Collection[str] = tuple(STYLES),
    opsets: Collection[int] = OPSETS,
    ranks: Collection[int] = (4, 3, 2),
    float_nodes: bool = True,
    fuse: bool = True,
    mixed: bool = True,
) -> Model:
    """A model that passes onnx.checker, and inputs for it.

    Args:
        draw: given by hypothesis.
        ops: operators to use, keys of ``EMITTERS``; all by default.
        min_nodes: operators at least, Q/DQ not counted (fewer where none of ``ops`` applies).
        max_nodes: operators at most.
        styles: keys of ``STYLES`` for the activations.
        opsets: versions to choose from.
        ranks: of the first input.
        float_nodes: allow float operators with no quantizer around them.
        fuse: allow operators behind others with no quantizer between (conv+relu, conv+add).
        mixed: allow activation types to change within the graph.
    """
    chosen = tuple(EMITTERS) if ops is None else tuple(op for op in EMITTERS if op in ops)
    plan = _Plan(chosen, tuple(styles), float_nodes, fuse, mixed)
    opset = draw(st.sampled_from(tuple(opsets)))
    b = GraphBuilder(opset, draw(st.integers(0, 2**16)), _style(draw, plan))
    pool = [b.quantized_input(_input_shape(draw, draw(st.sampled_from(tuple(ranks)))))]
    for _ in range(draw(st.integers(min_nodes, max_nodes))):
        _grow(draw, b, pool, plan)
    for name in pool:
        if b.consumers(name) == 0:
            b.output(name)
    return b.model(), b.inputs
