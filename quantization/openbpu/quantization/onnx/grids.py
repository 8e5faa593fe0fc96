"""What the grids of GridSample are computed of: int16, for a step of int8 is a 255th of the image.

    photo → Conv → Tanh → Transpose → Mul ─┐
                              base grid ───┴ Add → grid of GridSample
            └──────────── int16 ──────────────┘

Back to the products that lead there: what these read keeps its type, as do operands that are always int8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnx import NodeProto

from openbpu.arch.onnx_ops import CARRIERS, Does, that
from openbpu.quantization.onnx.classes import TABLE, Kind, data_inputs
from openbpu.quantization.onnx.net import Net

_PASSED = CARRIERS | that(Does.ELEMENTWISE) | {"Pad", "Where", "ReduceSum", "ReduceMean"}
"""What makes a coordinate of others."""


def find_grids(net: Net, kinds: Sequence[Kind]) -> frozenset[str]:
    """Return the tensors that lead to a grid behind the last products and layers on the way."""
    makers, found = net.producers(), set[str]()
    todo = [
        node.input[1]
        for node, kind in zip(net.nodes, kinds, strict=True)
        if node.op_type == "GridSample" and kind is Kind.QUANTIZED
    ]
    while todo:
        name = todo.pop()
        if name in found or name in net.consts:
            continue
        found.add(name)
        index = makers.get(name)
        if index is not None and kinds[index] is not Kind.CPU:
            todo += _operands(net.nodes[index])
    return frozenset(found)


def _operands(node: NodeProto) -> Iterator[str]:
    """Yield what must be as fine as the result."""
    if node.op_type in _PASSED:
        fixed = TABLE[node.op_type].types
        data = set(data_inputs(node))
        yield from (n for i, n in enumerate(node.input) if n in data and i not in fixed)
