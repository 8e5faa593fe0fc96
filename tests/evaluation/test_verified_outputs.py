"""`verify` at the outputs: floats finer than float32, and codes that a CPU segment has dequantized."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from openbpu.compiler import compile as compile_model
from openbpu.evaluation import verify

Array = Any


def model_of(nodes: list[onnx.NodeProto], shape: list[int], constants: dict[str, Array]) -> onnx.ModelProto:
    """x → q, d, …, y; `constants` besides the step and the zero of x."""
    known = {"step": np.float32(0.01), "z": np.int8(0)} | constants
    first = [
        helper.make_node("QuantizeLinear", ["x", "step", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "z"], ["d"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", None)))
    arrays = [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in known.items()]
    graph = helper.make_graph([*first, *nodes], "g", [x], [y], arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def wide_product(weight: Array) -> onnx.ModelProto:
    """A raw product whose accumulator needs more than the 24 bits of float32."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "step", "z"], ["v"]),
        helper.make_node("MatMul", ["d", "v"], ["y"]),
    ]
    return model_of(nodes, [2, 4096], {"w": weight})


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
def test_steps_finer_than_float32_are_no_mistake(march: str) -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(90, 128, (4096, 8)).astype(np.int8)
    feed = {"x": rng.uniform(1, 1.27, (2, 4096)).astype(np.float32)}
    model = wide_product(weight)
    found = verify(model, compile_model(model, march=march), feed)
    assert found.outputs[0].max_steps is not None
    assert found.outputs[0].max_steps > 1.5  # beyond any rounding of codes
    assert found.passed
    weight[0] -= 1
    assert not verify(model, compile_model(wide_product(weight), march=march), feed).passed


def softmax(step: float, code: type[np.generic]) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Softmax", ["d"], ["s"], axis=-1),
        helper.make_node("QuantizeLinear", ["s", "last", "none"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "last", "none"], ["y"]),
    ]
    return model_of(nodes, [4, 16], {"last": np.float32(step), "none": code(0)})


@pytest.mark.parametrize("code", [np.uint8, np.int16])
def test_a_wrong_scale_is_seen_where_the_cpu_dequantizes(code: type[np.generic]) -> None:
    """Within a step everywhere, and yet no multiples of it."""
    step = 1 / 127 if code is np.uint8 else 1 / 32767
    model, feed = softmax(step, code), {"x": np.random.default_rng(1).normal(size=(4, 16)).astype(np.float32)}
    right = compile_model(model, march="bayes-e")
    assert [p.on for p in right.placement if p.op == "Softmax"] == ["CPU"]
    assert verify(model, right, feed).passed
    found = verify(model, compile_model(softmax(step * 1.01, code), march="bayes-e"), feed)
    assert found.outputs[0].max_steps is not None
    assert found.outputs[0].max_steps < 1
    assert not found.passed
