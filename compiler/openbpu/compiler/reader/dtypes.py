"""Element types that a quantized model must not have: said early, with the node that has them."""

from __future__ import annotations

from openbpu.arch.errors import QuantizationError, must
from openbpu.compiler.ir.graph import Graph, Node
from openbpu.compiler.reader.elements import HALF_FLOATS, SMALL_INTS, name_of


def check_quantization(graph: Graph) -> None:
    """Raise QuantizationError where a DequantizeLinear reads a weight or activation of a type no BPU has.

    A Quantize of float32 in front of one must divide in float32: by its scale's type, or by its attribute
    `precision`.

    A Q or DQ on its own, as in a test of the operator, is the CPU's affair and passes.
    """
    quantized = {name for node in graph.nodes if node.op == "QuantizeLinear" for name in node.outputs}
    dequantized = {node.inputs[0] for node in graph.nodes if node.op == "DequantizeLinear"}
    for node in graph.nodes:
        if node.op == "QuantizeLinear" and not node.domain and node.outputs[0] in dequantized:
            _check_division(node, graph)
        if node.op != "DequantizeLinear" or node.domain:
            continue
        if graph.const(node.inputs[0]) is not None or node.inputs[0] in quantized:
            _check_integers(node, graph)
            _check_floats(node, graph)


def _check_division(node: Node, graph: Graph) -> None:
    asked = int(node.attrs.get("precision", 0))
    dtype = name_of(asked) if asked else graph.values[node.inputs[1]].dtype
    if dtype != "float32" and graph.values[node.inputs[0]].dtype == "float32":
        what = "attribute 'precision'" if asked else "type of the scale"
        fix = "BPU and ONNX Runtime divide in float32: export scales in float32, without 'precision'"
        raise QuantizationError(must(f"node '{node.name}' ({node.op})", what, "float32", dtype, fix))


def _check_integers(node: Node, graph: Graph) -> None:
    dtype = graph.values[node.inputs[0]].dtype
    if dtype in SMALL_INTS:
        kind = "weight" if graph.const(node.inputs[0]) is not None else "activation"
        fix = f"{dtype} is not supported by the BPU, use int8"
        raise QuantizationError(must(f"node '{node.name}'", f"quantized {kind}", "int8 or int16", dtype, fix))


def _check_floats(node: Node, graph: Graph) -> None:
    dtype = graph.values[node.outputs[0]].dtype
    if dtype in HALF_FLOATS:
        fix = "export the model in float32 before it is quantized"
        raise QuantizationError(must(f"node '{node.name}'", "dequantized type", "float32", dtype, fix))
