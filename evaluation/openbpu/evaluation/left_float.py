"""Operators that stay on the CPU of a march although `quantize` put pairs around them.

Which operators a march has a unit for, and within which limits, only the compiler knows; so it is asked, and
what it leaves to the CPU stays float:

    x → Q → DQ → GridSample → Q → DQ → Conv      becomes      x → GridSample → Q → DQ → Conv
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from onnx import ModelProto

from openbpu.arch.errors import OpenbpuError
from openbpu.arch.program import Placement

Made = TypeVar("Made")
Left = Mapping[str, str]
"""Nodes that are left float, by name, with what they make in the float model."""

UNROUNDED = "_QuantizeLinear_Input"
"""What is computed at a graph output that has a pair carries this suffix."""

_ROUNDS = 3
"""What is left float can leave another node without a neighbour on the BPU, so that stays on the CPU, too."""

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


def leave_float(
    make: Callable[[Left], Made],
    placed: Callable[[Made], tuple[ModelProto, Sequence[Placement]]],
    kept: Collection[str],
    left: Left,
) -> tuple[Made, Left]:
    """Return what is made when what stays on the CPU is left float, and the nodes that are.

    make: quantizes with these nodes in float · placed: the model, and where its nodes run · kept: what nodes
    make that have a type of their own · left: nodes that are float from the beginning. Raises what `make`
    raises the first time.
    """
    found = make(left)
    for _ in range(_ROUNDS):
        there = rounded_on_cpu(*placed(found))
        more = {name: made for name, made in there.items() if made not in kept and name not in left}
        if not more:
            break
        try:
            found = make({**left, **more})
        except OpenbpuError:  # nothing else is there to quantize, or no config can name the node
            break
        left = {**left, **more}
    return found, left
