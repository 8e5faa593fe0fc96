"""A small quantized model whose middle stays on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def mixed_model() -> onnx.ModelProto:
    """image 1×8×6×6 → QDQ conv → Log, LRN (no BPU unit: on the CPU) → QDQ → conv → result."""
    rng = np.random.default_rng(0)
    shape = (1, 8, 6, 6)
    weights: dict[str, Any] = {
        "w1": rng.integers(10, 90, (8, 8, 3, 3)).astype(np.int8),
        "w2": rng.integers(-90, 90, (8, 8, 1, 1)).astype(np.int8),
        "s": np.array(0.05, np.float32),
        "sw": np.array(0.01, np.float32),
        "z": np.array(0, np.int8),
    }
    nodes: list[onnx.NodeProto] = []

    def pair(x: str) -> str:
        nodes.append(helper.make_node("QuantizeLinear", [x, "s", "z"], [f"{x}_q"], name=f"{x}_q"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{x}_q", "s", "z"], [f"{x}_d"], name=f"{x}_d"))
        return f"{x}_d"

    for w in ("w1", "w2"):
        nodes += [helper.make_node("DequantizeLinear", [w, "sw", "z"], [f"{w}_d"], name=f"{w}_d")]
    first = helper.make_node("Conv", [pair("image"), "w1_d"], ["a"], name="conv1", pads=[1, 1, 1, 1])
    nodes.append(first)
    log = helper.make_node("Log", [pair("a")], ["l"], name="log")
    nodes += [log, helper.make_node("LRN", ["l"], ["b"], name="lrn", size=3)]
    nodes.append(helper.make_node("Conv", [pair("b"), "w2_d"], ["c"], name="conv2"))
    nodes.append(helper.make_node("Identity", [pair("c")], ["result"], name="out"))
    graph = helper.make_graph(
        nodes,
        "mixed",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
