"""What goes from the BPU to a float node, and comes from it, is int16 where the nodes around it are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx import quantize
from quantization.float_models import float_model, noise, samples
from quantization.test_onnx_config import types
from witness import ort

WEIGHTS = {"w": noise(4, 4, 1, 1), "v": noise(4, 4, 1, 1, seed=1)}


def found(text: str, config: dict[str, str], **options: Any) -> dict[str, str]:
    source = float_model(f"(float[1,4,8,8] x) => (float[1,4,8,8] y) {{ {text} }}", WEIGHTS)
    asked = {"node_config": {name: {"qtype": kind} for name, kind in config.items()}}
    return types(quantize(source, samples(source), config=asked, **options))


INT16 = {"a": "int16", "f": "float", "b": "int16"}


@pytest.mark.parametrize(
    ("text", "config", "expected"),
    [
        pytest.param(
            "[a] t = Softmax(x) [f] u = Softmax(t) [b] v1 = Softmax(u) [y] y = Conv(v1, w)",
            INT16,
            {"t": "int16", "u": "int16"},
            id="between int16 nodes",
        ),
        pytest.param(
            """[a] t = Softmax(x) [r] r = Transpose <perm = [0, 1, 3, 2]> (t) [f] u = Softmax(r)
            [s] s = Transpose <perm = [0, 1, 3, 2]> (u) [b] v1 = Softmax(s) [y] y = Conv(v1, w)""",
            INT16,
            {"t": "int16", "r": "int16", "u": "int16", "s": "int16"},
            id="behind movement",
        ),
        pytest.param(
            "[a] c = Conv(x, w) [r] t = Relu(c) [f] u = Softmax(t) [b] v1 = Softmax(u) [y] y = Conv(v1, w)",
            INT16,
            {"t": "int16", "u": "int16"},
            id="behind what is fused with an int16 node",
        ),
        pytest.param(
            "[a] s = Sigmoid(x) [m] t = Mul(x, s) [f] u = Softmax(t) [b] v1 = Softmax(u) [y] y = Conv(v1, w)",
            INT16,
            {"t": "int16", "u": "int16"},
            id="behind a unit that reads int16",
        ),
        pytest.param(
            """[a] t = Softmax(x) [f] u = Softmax(t) [b] v1 = Softmax(t) [z] z = Add(u, v1)
            [y] y = Conv(z, w)""",
            {"a": "int16", "f": "float", "b": "int8"},
            {"t": "int16"},
            id="an int8 node beside it rounds once more",
        ),
        pytest.param(
            "[a] t = Softmax(x) [f] u = Hardmax(t) [b] v1 = Softmax(u) [y] y = Conv(v1, w)",
            {"a": "int16"},
            {"t": "int16", "u": "int8"},
            id="the BPU has no such operator",
        ),
        pytest.param(
            "[a] t = Softmax(x) [f] u = Softmax(t) [b] v1 = Softmax(u) [y] y = Conv(v1, w)",
            {"f": "float"},
            {"t": "int16", "u": "int8"},
            id="nobody on the BPU reads it",
        ),
        pytest.param(
            "[a] t = Softmax(x) [f] u = Softmax(t) [b] v1 = Softmax(t) [z] z = Add(u, v1) [y] y = Conv(z, w)",
            {"f": "float"},
            {"t": "int8"},
            id="an int8 node makes it and one reads it",
        ),
    ],
)
def test_an_edge_between_int16_and_float_is_int16(
    text: str, config: dict[str, str], expected: dict[str, str]
) -> None:
    made = found(text, config)
    assert {name: made[name] for name in expected} == expected


def test_the_shape_of_a_tensor_is_no_reason_for_int16() -> None:
    text = """[a] t = Softmax(x) [f] k = Shape(t) [b] v1 = Softmax(t) [c] r = Reshape(v1, k)
        [y] y = Conv(r, w)"""
    assert found(text, {"a": "int16"})["t"] == "int8"


def test_without_int16_what_a_float_node_reads_is_int8() -> None:
    text = "[a] t = Softmax(x) [f] u = Softmax(t) [b] v1 = Softmax(u) [y] y = Conv(v1, w)"
    assert set(found(text, {"f": "float"}, tail=DType.INT8).values()) == {"int8"}


def test_a_float_node_in_an_int16_chain_makes_nothing_worse() -> None:
    text = "[a] t = Add(x, x) [f] u = Sinh(t) [b] y = Softmax(u)"
    source = float_model(f"(float[1,4,8,8] x) => (float[1,4,8,8] y) {{ {text} }}", WEIGHTS)
    data = samples(source)
    feed = {"x": data["x"][0]}
    exact = ort.run(source, feed)["y"]

    def error(kind: str) -> float:
        asked = {"node_config": {n: {"qtype": k} for n, k in {**INT16, "f": kind}.items()}}
        made = quantize(source, data, config=asked, asymmetric=False)
        return float(np.abs(ort.run(made, feed)["y"] - exact).max())

    assert error("float") <= 1.05 * error("int16")
