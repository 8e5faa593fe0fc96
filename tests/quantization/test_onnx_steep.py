"""Facts about what roots and logarithms read: int16, where a step near 0 would be large behind them."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx import quantize
from openbpu.quantization.onnx.choice import Choice
from witness import ort

RNG = np.random.default_rng(0)


def network(*steps: onnx.NodeProto) -> onnx.ModelProto:
    """Return Conv → steps from 'x' to 'r' → Conv on 4 channels of 8 × 8, with constants for the steps."""
    made = {
        "w": RNG.normal(size=(4, 4, 1, 1)),
        "v": RNG.normal(size=(4, 4, 1, 1)),
        "half": np.array(0.5),
        "low": np.array(1e-4),
        "far": np.array(400.0),
    }
    used = {name for node in steps for name in node.input} | {"w", "v"}
    weights = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in made.items() if n in used]
    first = helper.make_node("Conv", ["image", "w"], ["x"], name="first")
    last = helper.make_node("Conv", ["r", "v"], ["y"], name="last")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4, 8, 8]) for n in ("image", "y")]
    graph = helper.make_graph([first, *steps, last], "steep", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def node(op: str, *inputs: str, to: str) -> onnx.NodeProto:
    return helper.make_node(op, [*inputs], [to], name=f"{op} {to}")


def magnitude() -> onnx.ModelProto:
    turned = helper.make_node("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2])
    return network(
        turned,
        node("Mul", "x", "x", to="a"),
        node("Mul", "t", "t", to="b"),
        node("Add", "a", "b", to="s"),
        node("Sqrt", "s", to="r"),
    )


def choice_of(model: onnx.ModelProto, **options: Any) -> tuple[onnx.ModelProto, Choice]:
    told: list[Choice] = []
    data = {"image": RNG.normal(size=(8, 4, 8, 8)).astype(np.float32) ** 3}
    return quantize(model, data, told=told.append, **options), told[0]


def noise(model: onnx.ModelProto, quantized: onnx.ModelProto) -> float:
    """Return the output's noise to signal of a fresh sample in dB."""
    feed = {"image": np.random.default_rng(9).normal(size=(1, 4, 8, 8)).astype(np.float32) ** 3}
    exact, found = (next(iter(ort.run(m, feed).values())) for m in (model, quantized))
    return float(10 * np.log10(np.sum((found - exact) ** 2) / np.sum(exact**2)))


def test_a_root_of_squares_reads_int16_and_is_close() -> None:
    model = magnitude()
    quantized, choice = choice_of(model)
    types = {name: r.dtype for name, r in choice.ranges.items()}
    assert types["s"] is types["a"] is types["b"] is DType.INT16
    assert types["r"] is DType.INT8
    assert {f.kind for f in choice.findings} == {"widened"}
    assert all("'Sqrt r'" in f.text for f in choice.findings)
    coarse, _ = choice_of(model, tail=DType.INT8)
    assert noise(model, quantized) < noise(model, coarse) - 3


@pytest.mark.parametrize("guard", ["Add", "Max"])
@pytest.mark.parametrize("root", ["Sqrt", "Pow", "Log"])
def test_what_is_steep_near_zero_reads_int16_through_its_guard(guard: str, root: str) -> None:
    last = node("Pow", "q", "half", to="r") if root == "Pow" else node(root, "q", to="r")
    _, choice = choice_of(network(node("Abs", "x", to="p"), node(guard, "p", "low", to="q"), last))
    assert choice.ranges["x"].dtype is DType.INT16
    assert [(f.kind, f.tensor) for f in choice.findings] == [("widened", "x")]


def test_a_root_far_from_zero_reads_int8() -> None:
    _, choice = choice_of(
        network(node("Abs", "x", to="p"), node("Add", "p", "far", to="q"), node("Sqrt", "q", to="r"))
    )
    assert choice.ranges["x"].dtype is DType.INT8
    assert not choice.findings


def test_what_is_asked_to_read_int8_does() -> None:
    config = {"op_config": {"Sqrt": {"qtype": "int8"}}}
    _, choice = choice_of(magnitude(), config=config)
    assert choice.ranges["s"].dtype is DType.INT8


def test_nothing_is_int16_where_the_user_has_no_int16() -> None:
    _, choice = choice_of(magnitude(), tail=DType.INT8)
    assert {r.dtype for r in choice.ranges.values()} == {DType.INT8}
