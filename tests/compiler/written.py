"""Models written node by node, for tests of graphs that no builder makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def model_of(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int],
    outputs: Mapping[str, Sequence[int] | None],
    constants: Mapping[str, np.ndarray],
    opset: int,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """A float32 input `x` of `shape` and float32 outputs; only constants that some node reads are kept."""
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "written",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, out) for name, out in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def quantized_x(target: str = "f") -> list[onnx.NodeProto]:
    """x → Quantize → Dequantize → `target`, with the constants s and z."""
    return [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], [target]),
    ]
