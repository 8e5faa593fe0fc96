"""Operators that stay on the CPU of a march although `quantize` put pairs around them.

Which operators a march has a unit for, and within which limits, only the compiler knows; so it is asked, and
what it leaves to the CPU stays float:

    x → Q → DQ → GridSample → Q → DQ → Conv      becomes      x → GridSample → Q → DQ → Conv
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx import ModelProto

from openbpu.arch.program import Placement

UNROUNDED = "_QuantizeLinear_Input"
"""What is computed at a graph output that has a pair carries this suffix."""

_PAIRS = frozenset({"QuantizeLinear", "DequantizeLinear"})


def rounded_on_cpu(quantized: ModelProto, placement: Sequence[Placement]) -> dict[str, str]:
    """Return the CPU nodes that pairs were put around, by name, with what they make in the float model.

    These compute, but between rounded tensors. `placement`: of `quantized`, as the compiler has it.
    """
    there = {row.node for row in placement if row.on == "CPU" and row.op not in _PAIRS}
    nodes = quantized.graph.node
    rounded = {node.output[0]: node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    results = set(rounded.values())
    read = {
        node.output[0] for node in nodes if node.op_type == "DequantizeLinear" and node.input[0] in rounded
    }
    return {
        node.name: node.output[0].removesuffix(UNROUNDED)
        for node in nodes
        if node.name in there and not read.isdisjoint(node.input) and not results.isdisjoint(node.output)
    }
