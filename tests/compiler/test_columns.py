"""A tensor that lies as single columns inside a concat, read by instructions without an element stride."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from compiler.written import model_of
from openbpu.compiler import compile as compile_model
from openbpu.runtime import Session

CHANNELS = 4
SCALE, ZERO = np.array(1 / 16, np.float32), np.array(0, np.int8)
READERS: dict[str, tuple[list[int], list[str], dict[str, Any]]] = {
    "Conv": ([1, CHANNELS, 1], ["w"], {}),
    "ConvTranspose": ([1, CHANNELS, 1], ["w"], {}),
    "MatMul": ([1, CHANNELS], ["m"], {}),
    "Softmax": ([1, CHANNELS], [], {"axis": 1}),
    "MaxPool": ([1, CHANNELS, 1], [], {"kernel_shape": [2], "pads": [0, 1]}),
    "Gather": ([1, CHANNELS], ["twice"], {"axis": 0}),
    "Resize": ([1, CHANNELS, 1, 1], ["", "sizes"], {"mode": "linear"}),
}


def columns_and_reader(op: str) -> onnx.ModelProto:
    """x → (Concat(Relu(x), x) along the last axis, op(Reshape(x))), quantized."""
    shape, extra, attrs = READERS[op]
    constants: dict[str, np.ndarray] = {
        "s": SCALE,
        "z": ZERO,
        "shape": np.array(shape, np.int64),
        "wq": np.arange(-8, 8, dtype=np.int8).reshape(CHANNELS, CHANNELS, 1) * 7,
        "mq": np.arange(-6, 6, dtype=np.int8).reshape(CHANNELS, 3) * 9,
        "twice": np.array([0, 0], np.int64),
        "sizes": np.array([1, 1, 2, 2], np.float32),
    }
    nodes: list[onnx.NodeProto] = []

    def rounded(name: str) -> str:
        """Quantize and dequantize a tensor."""
        nodes.append(helper.make_node("QuantizeLinear", [name, "s", "z"], [name + "_q"]))
        return decoded(name + "_q")

    def decoded(codes: str) -> str:
        nodes.append(helper.make_node("DequantizeLinear", [codes, "s", "z"], [codes + "_f"]))
        return codes + "_f"

    x = rounded("x")
    nodes.append(helper.make_node("Relu", [x], ["relu"]))
    nodes.append(helper.make_node("Concat", [rounded("relu"), x], ["joined"], axis=2))
    nodes.append(helper.make_node("Reshape", [x, "shape"], ["view"]))
    weights = {"w": "wq", "m": "mq"}
    inputs = [rounded("view"), *(decoded(weights[e]) if e in weights else e for e in extra)]
    nodes.append(helper.make_node(op, inputs, ["read"], name="reader", **attrs))
    outputs = [rounded("joined"), rounded("read")]
    return model_of(nodes, [1, CHANNELS, 1], dict.fromkeys(outputs), constants, 17)


@pytest.mark.parametrize("op", READERS)
def test_columns_of_a_concat_are_read_right(op: str) -> None:
    model = columns_and_reader(op)
    x = np.array([-3.0, 1.5, 0.25, 2.0], np.float32).reshape(1, CHANNELS, 1)
    results = [
        Session(compile_model(model, march="nash-e", opt=opt), mode=mode).run({"x": x}).outputs
        for opt in (0, 2)
        for mode in ("fast", "exact")
    ]
    for other in results[1:]:
        for name, value in results[0].items():
            np.testing.assert_array_equal(other[name], value, err_msg=name)
