"""Facts about the verifier: what is illegal in a graph is named with its node, where that is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from openbpu.arch.errors import InternalError
from openbpu.compiler.ir import Array, Graph, Node, Value
from openbpu.compiler.ir.dialect import bpu_node
from openbpu.compiler.ir.verify import IllegalGraphError, Stage, verify, verify_after, verify_parts
from openbpu.compiler.lower.partition import partition
from openbpu.compiler.passes.compose import fuse_tables
from openbpu.compiler.passes.layout import settle_layout
from openbpu.compiler.passes.moves import cancel_pairs
from openbpu.compiler.passes.pads import fold_pads
from openbpu.compiler.passes.qoperator import unfold_qoperators

IMAGE = (1, 4, 4, 2)


def graph(*nodes: Node, **values: Value) -> Graph:
    """A graph from x to y, int8 images but for the values that are given; w, p and t are constants."""
    consts: dict[str, Array] = {
        "w": np.ones((2, 1, 1, 2), np.int8),
        "p": np.zeros((2, 4), np.int32),
        "t": np.zeros(256, np.int8),
        "s": np.array(0.5, np.float32),
    }
    names = {*("x", "y"), *(n for node in nodes for n in (*node.inputs, *node.outputs) if n)}
    made = {name: Value(name, IMAGE, "int8") for name in names - consts.keys()}
    made |= {n: Value(n, a.shape, str(a.dtype), a) for n, a in consts.items()}
    return Graph(nodes, {**made, **values}, ("x",), ("y",))


def conv(x: str, y: str) -> Node:
    return bpu_node("Conv", y, name="c", x=x, weight="w", params="p", kernel=(1, 1))


def lut(x: str, y: str) -> Node:
    return bpu_node("Lut", y, name="l", x=x, table="t")


def pad(x: str, y: str) -> Node:
    return bpu_node("Pad", y, name="b", x=x, before=(0, 1, 1, 0), after=(0, 1, 1, 0))


def turn(x: str, y: str, name: str, perm: Iterable[int] = (0, 3, 1, 2)) -> Node:
    return bpu_node("Transpose", y, name=name, x=x, perm=tuple(perm))


def quantize(x: str, y: str, op: str = "QuantizeLinear") -> Node:
    return Node(op, (x, "s"), (y,), name=op[0].lower())


FLOAT = {"y": Value("y", IMAGE, "float32"), "f": Value("f", IMAGE, "float32")}
LEGAL = graph(conv("x", "a"), lut("a", "y"))


@pytest.mark.parametrize("stage", [Stage.INTEGER, Stage.PLACED, Stage.SETTLED])
def test_a_legal_graph_passes(stage: Stage) -> None:
    verify(LEGAL, stage)


ILLEGAL: dict[str, tuple[Graph, Stage, str]] = {
    "read before it is made": (
        graph(lut("a", "y"), conv("x", "a")),
        Stage.INTEGER,
        "node 'l' (Lut): 'a', which it reads, must be made before, not unknown there",
    ),
    "made twice": (
        graph(conv("x", "y"), lut("x", "y")),
        Stage.INTEGER,
        "node 'l' (Lut): 'y', which it makes, must be made once, not made twice",
    ),
    "an output without a maker": (
        graph(conv("x", "a")),
        Stage.INTEGER,
        "the graph: output 'y' must be made by a node, not made by none",
    ),
    "no such kind": (
        graph(replace(lut("x", "y"), op="Nothing")),
        Stage.INTEGER,
        "node 'l' (Nothing): a node of the BPU must be one of ArgReduce, Binary,",
    ),
    "too few operands": (
        graph(replace(lut("x", "y"), inputs=("x",))),
        Stage.INTEGER,
        "node 'l' (Lut): its operands must be x table, not 1 values",
    ),
    "an operand left out": (
        graph(replace(lut("x", "y"), inputs=("x", ""))),
        Stage.INTEGER,
        "node 'l' (Lut): operand table must be given, not left out",
    ),
    "a table that is computed": (
        graph(replace(lut("x", "y"), inputs=("x", "x"))),
        Stage.INTEGER,
        "node 'l' (Lut): operand table must be a constant, not computed ('x')",
    ),
    "an unknown attribute": (
        graph(replace(lut("x", "y"), attrs={"size": 256})),
        Stage.INTEGER,
        "node 'l' (Lut): its attributes must be , not an unknown size",
    ),
    "a missing attribute": (
        graph(replace(turn("x", "y", "t1"), attrs={})),
        Stage.INTEGER,
        "node 't1' (Transpose): its attributes must be perm, not no perm",
    ),
    "a shape that is unknown": (
        graph(lut("x", "y"), x=Value("x", None, "int8")),
        Stage.INTEGER,
        "node 'l' (Lut): the shape of 'x' must be static, not unknown",
    ),
    "of the BPU too early": (
        LEGAL,
        Stage.NORMAL,
        "node 'c' (Conv): a node must be one of ONNX, not one of the BPU",
    ),
    "floats on the BPU": (
        graph(lut("x", "y"), **FLOAT),
        Stage.INTEGER,
        "node 'l' (Lut): the type of 'y' must be int8, int16, int32, not float32",
    ),
    "floats inside": (
        graph(lut("x", "y"), **FLOAT),
        Stage.SETTLED,
        "node 'l' (Lut): the type of 'y' must be int8, int16, int32, not float32",
    ),
    "a Quantize of codes": (
        graph(bpu_node("Quantize", "y", name="q", x="x", scale=0.5)),
        Stage.PLACED,
        "node 'q' (Quantize): its ends must be floats on one side, codes on the other, not of one kind",
    ),
}


@pytest.mark.parametrize("case", ILLEGAL)
def test_what_is_illegal_is_named(case: str) -> None:
    made, stage, said = ILLEGAL[case]
    with pytest.raises(InternalError) as refused:
        verify(made, stage)
    assert isinstance(refused.value.__cause__, IllegalGraphError)
    assert f"the graph ({stage.value}): openbpu does not get through (IllegalGraphError: {said}" in str(
        refused.value
    )


PASSES = {
    "cancel_pairs": (
        cancel_pairs,
        graph(quantize("x", "f", "DequantizeLinear"), quantize("f", "a"), lut("a", "y"), **FLOAT),
        "a Quantize must be of another scale, not that of 'd' before it",
    ),
    "unfold_qoperators": (
        unfold_qoperators,
        graph(replace(quantize("x", "y"), op="QLinearMatMul", name="m")),
        "a quantized operator must be in QDQ form, not QLinearMatMul",
    ),
    "settle_layout": (
        settle_layout,
        graph(turn("x", "a", "t1"), turn("a", "y", "t2")),
        "a Transpose must be one with the next, not behind 't1'",
    ),
    "settle_layout of idle axes": (
        settle_layout,
        graph(turn("x", "y", "t1", (0, 1, 2, 3))),
        "a Transpose must be of axes that change their order, not one that moves nothing",
    ),
    "fold_pads": (
        fold_pads,
        graph(pad("x", "a"), conv("a", "y"), a=Value("a", (1, 6, 6, 2), "int8")),
        "its border must be its own padding, not 'a'",
    ),
    "fuse_tables": (fuse_tables, LEGAL, "a look-up must be part of 'c' before it, not a node of its own"),
}


@pytest.mark.parametrize("case", PASSES)
def test_what_a_pass_ensures_is_true_behind_it_only(case: str) -> None:
    step, made, said = PASSES[case]
    with pytest.raises(InternalError, match="the graph behind ") as refused:
        verify_after(made, step)
    assert said in str(refused.value)
    if step is not unfold_qoperators:  # which wants real operands
        verify_after(step(made), step)


def test_segments_hold_every_node_once_and_run_one_after_another() -> None:
    parts = partition(LEGAL)
    verify_parts(LEGAL, parts)
    with pytest.raises(InternalError, match="their nodes must be the 2 of the graph, not 0"):
        verify_parts(LEGAL, ())
    with pytest.raises(InternalError, match="its input 'x' must be made before"):
        verify_parts(replace(LEGAL, inputs=()), parts)
    with pytest.raises(InternalError, match="its segment must be of its own side"):
        verify_parts(LEGAL, [replace(part, on_bpu=False) for part in parts])


@pytest.mark.parametrize("value", ["", "0"])
def test_nothing_is_checked_unless_it_is_asked_for(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBPU_VERIFY", value)
    verify(LEGAL, Stage.NORMAL)
    verify_after(LEGAL, fuse_tables)
    verify_parts(LEGAL, ())
