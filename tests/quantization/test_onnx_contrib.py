"""Fused float operators of com.microsoft are quantized as what they mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from openbpu.compiler import compile as build
from openbpu.quantization.onnx import Choice, quantize
from quantization.float_models import noise, samples
from witness import ort

CONSTS: dict[str, Any] = {
    "w": noise(16, 16) / 4,
    "v": noise(16, 16, seed=1) / 4,
    "gain": 1 + noise(16, seed=2) / 4,
    "shift": noise(16, seed=3),
    "bias": noise(16, seed=4),
    "k": noise(4, 4, 3, 3, seed=5) / 4,
    "kb": noise(4, seed=6),
}
NODES: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "SkipLayerNormalization": ("", ["m", "x", "gain", "shift"], {"epsilon": 1e-5}),
    "with a bias": ("SkipLayerNormalization", ["m", "x", "gain", "shift", "bias"], {}),
    "without a shift": ("SkipLayerNormalization", ["m", "x", "gain"], {}),
    "SkipSimplifiedLayerNormalization": ("", ["m", "x", "gain"], {"epsilon": 1e-5}),
    "Gelu": ("", ["m"], {}),
    "BiasGelu": ("", ["m", "bias"], {}),
    "FastGelu": ("", ["m"], {}),
    "FastGelu and a bias": ("FastGelu", ["m", "bias"], {}),
    "QuickGelu": ("", ["m"], {"alpha": 1.5}),
    "FusedMatMul": ("", ["m", "v"], {"transB": 1, "alpha": 0.5}),
    "of two tensors": ("FusedMatMul", ["m", "x"], {"transB": 1}),
}


def model_of(nodes: list[Any], shape: list[int], out: list[int]) -> ModelProto:
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in CONSTS.items() if n in used],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def judge(model: ModelProto) -> None:
    data = samples(model, 4)
    made = quantize(model, data)
    assert all(node.domain != "com.microsoft" for node in made.graph.node)
    found, wanted = (
        np.concatenate([ort.run(m, {"x": x})["y"].ravel() for x in data["x"]]) for m in (made, model)
    )
    assert found @ wanted / np.sqrt((found @ found) * (wanted @ wanted)) > 0.998
    assert {row.on for row in build(made, march="nash-e").placement} == {"BPU"}


@pytest.mark.parametrize("name", NODES)
def test_a_fused_operator_is_quantized_and_on_the_bpu(name: str) -> None:
    op, inputs, attributes = NODES[name]
    node = helper.make_node(op or name, inputs, ["f"], "fused", domain="com.microsoft", **attributes)
    square = name == "of two tensors"
    last = helper.make_node("Relu", ["f"], ["y"], "last")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"], "first"), node, last]
    judge(model_of(nodes, [1, 6, 16], [1, 6, 6 if square else 16]))


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Sigmoid", ""])
def test_a_fused_convolution_is_quantized_and_on_the_bpu(activation: str) -> None:
    more = {"activation": activation} if activation else {}
    if activation == "LeakyRelu":
        more["activation_params"] = [0.1]  # type: ignore[assignment]
    node = helper.make_node(
        "FusedConv", ["x", "k", "kb"], ["f"], "fused", domain="com.microsoft", pads=[1] * 4, **more
    )
    judge(model_of([node, helper.make_node("Relu", ["f"], ["y"], "last")], [1, 4, 8, 8], [1, 4, 8, 8]))


def test_a_sum_that_is_read_too_is_kept_and_the_node_keeps_its_name() -> None:
    first = helper.make_node("MatMul", ["x", "w"], ["m"], "first")
    outs = ["f", "", "", "s"]
    node = helper.make_node(
        "SkipLayerNormalization", ["m", "x", "gain", "shift"], outs, "norm", domain="com.microsoft"
    )
    model = model_of(
        [first, node, helper.make_node("Add", ["f", "s"], ["y"], "last")], [1, 6, 16], [1, 6, 16]
    )
    judge(model)
    assert "norm" in {n.name for n in quantize(model, samples(model, 2)).graph.node}


def test_a_fused_operator_that_is_not_known_is_named_with_what_to_do() -> None:
    node = helper.make_node(
        "FusedGemm", ["m", "v"], ["f"], "fused", domain="com.microsoft", activation="Relu"
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        node,
        helper.make_node("MatMul", ["f", "v"], ["y"]),
    ]
    model = model_of(nodes, [6, 16], [6, 16])
    told: list[Choice] = []
    quantize(model, samples(model, 2), told=told.append)
    (found,) = [f for f in told[0].findings if f.kind == "kept"]
    assert "'fused' (FusedGemm of com.microsoft) stays float" in found.text
