"""Divisions that nothing here does: said early, with the node that has them."""

from __future__ import annotations

from openbpu.arch.errors import QuantizationError, must
from openbpu.compiler.ir.graph import Graph, Node
from openbpu.compiler.reader.elements import name_of


def check_quantization(graph: Graph) -> None:
    """Raise QuantizationError where a Quantize of float32 divides in another type, and a Dequantize reads it.

    The type is that of its scale, or its attribute `precision`. A Q or DQ on its own, as in a test of the
    operator, is the CPU's affair and passes.
    """
    dequantized = {node.inputs[0] for node in graph.nodes if node.op == "DequantizeLinear"}
    for node in graph.nodes:
        if node.op == "QuantizeLinear" and not node.domain and node.outputs[0] in dequantized:
            _check_division(node, graph)


def _check_division(node: Node, graph: Graph) -> None:
    asked = int(node.attrs.get("precision", 0))
    dtype = name_of(asked) if asked else graph.values[node.inputs[1]].dtype
    if dtype != "float32" and graph.values[node.inputs[0]].dtype == "float32":
        what = "attribute 'precision'" if asked else "type of the scale"
        fix = "BPU and ONNX Runtime divide in float32: export scales in float32, without 'precision'"
        raise QuantizationError(must(f"node '{node.name}' ({node.op})", what, "float32", dtype, fix))
