"""A pattern with something changed in it computes what it did, whether or not it is still one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from onnx import GraphProto, NodeProto, numpy_helper

from openbpu.arch.errors import ModelError
from openbpu.quantization.onnx.engine import run_once
from openbpu.quantization.onnx.net import assemble
from openbpu.quantization.onnx.opset import OPSET_PER_CHANNEL
from openbpu.quantization.onnx.prepare import prepare
from quantization.patterns.spelled import Writer, written_length, written_norm, written_rms, written_softmax

Choose = Callable[[Sequence[Any]], Any]
TWO = ("Add", "Sub", "Mul", "Div", "Max")
ONE = ("Sqrt", "Reciprocal", "Exp", "Log", "Neg", "Abs", "Relu")
BATCH = 20


def other_operator(graph: GraphProto, node: NodeProto, choose: Choose) -> None:
    for kinds in (TWO, ONE, ("ReduceMean", "ReduceMax")):
        if node.op_type in kinds:
            node.op_type = choose(kinds)
            return


def other_order(graph: GraphProto, node: NodeProto, choose: Choose) -> None:
    if node.op_type in TWO:
        node.input.extend([node.input[1], node.input[0]])
        del node.input[:2]


def other_axis(graph: GraphProto, node: NodeProto, choose: Choose) -> None:
    for item in node.attribute:
        if item.name == "axes":
            item.ints[0] = choose((0, 1, 2))


def other_constant(graph: GraphProto, node: NodeProto, choose: Choose) -> None:
    floats = [t for t in graph.initializer if numpy_helper.to_array(t).dtype == np.float32]
    if floats:
        tensor = choose(floats)
        made = numpy_helper.to_array(tensor) * np.float32(choose((2, -1, 0.5, 0))) + np.float32(
            choose((0, 1))
        )
        tensor.CopyFrom(numpy_helper.from_array(made.astype(np.float32), tensor.name))


def other_operand(graph: GraphProto, node: NodeProto, choose: Choose) -> None:
    at = next(n for n, other in enumerate(graph.node) if other.output[0] == node.output[0])
    if node.op_type in TWO:
        earlier = ["x", *(name for other in list(graph.node)[:at] for name in other.output)]
        node.input[choose((0, 1))] = choose(earlier)


CHANGES = (other_operator, other_order, other_axis, other_constant, other_operand)


def mutant(seed: int) -> tuple[Writer, Any]:
    choose: Choose = random.Random(seed).choice
    w = Writer(choose((9, 13, 17, 18)), choose(((3, 4, 8), (2, 6, 3, 4))), choose)
    axes = choose(([len(w.shape) - 1], [1], [*range(2, len(w.shape))]))
    gain = choose((None, np.linspace(0.5, 1.5, w.shape[-1], dtype=np.float32)))
    ways = (
        lambda: written_norm(w, axes, 0.01, gain, gain),
        lambda: written_rms(w, axes, 0.01, gain),
        lambda: written_length(w, axes[0], 1e-12),
        lambda: written_softmax(w, axes[0], log=choose((False, True))),
    )
    choose(ways)()
    model = w.model()
    for _ in range(choose((1, 2))):
        choose(CHANGES)(model.graph, choose(model.graph.node), choose)
    return w, model


@pytest.mark.parametrize("batch", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 12))])
def test_a_changed_pattern_computes_what_it_did(batch: int) -> None:
    fused = 0
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        writer, model = mutant(seed)
        x = np.random.default_rng(seed).normal(0.3, 2, writer.shape).astype(np.float32)
        try:
            want = run_once(model, {"x": x}, ["y"])["y"]
        except ModelError:  # the change left no model
            continue
        net = prepare(model, OPSET_PER_CHANNEL)
        fused += any(node.op_type.endswith(("Normalization", "Softmax")) for node in net.nodes)
        got, real = run_once(assemble(net), {"x": x}, ["y"])["y"], np.isfinite(want)
        size = np.abs(want[real]).max(initial=1e-6)
        np.testing.assert_allclose(got[real], want[real], rtol=0, atol=1e-4 * size, err_msg=f"seed {seed}")
    assert fused > BATCH // 4
