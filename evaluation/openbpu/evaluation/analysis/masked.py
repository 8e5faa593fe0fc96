"""What a mask hides: values in front of a Softmax that are so low that nothing of them is left behind it.

A mask may be -1e4 or minus infinity: no scale should reach there, so the pair of such a tensor saturates, and
what it cuts off is no error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Array
from openbpu.evaluation.analysis.cut import Graph
from openbpu.quantization.onnx.nodes import attribute

HIDDEN = 20.0
"""So far below the largest value of its row a value has no part in a Softmax: exp(-20) is 2e-9."""
_SOFTMAX = {"Softmax", "LogSoftmax"}
_MASKS = ("Add", "Where", "Sub")


@dataclass(frozen=True, slots=True)
class InFront:
    """How a tensor reaches a Softmax over `axis`: directly, or as an operand of what masks (`operand`)."""

    axis: int
    operand: bool

    def shown(self, x: Array) -> npt.NDArray[np.bool_] | None:
        """Return which values are not hidden; None where all are shown.

        Of an operand only a mask itself is judged so: it has one value where it hides nothing.
        """
        if x.dtype.kind != "f" or not x.ndim or not x.size:
            return None
        axis = self.axis if -x.ndim <= self.axis < x.ndim else -1
        wide = x.astype(np.float64)
        shown = wide > wide.max(axis=axis, keepdims=True) - HIDDEN
        if self.operand and not (shown.any() and np.ptp(wide[shown]) == 0):
            return None
        return None if shown.all() else shown


def in_front_of_softmax(graph: Graph) -> dict[str, InFront]:
    """Return the tensors that a Softmax reads, through pairs, and the operands of what masks them."""
    found: dict[str, InFront] = {}
    for node in graph.nodes:
        if node.op_type in _SOFTMAX:
            _note(graph, node.input[0], InFront(attribute(node, "axis", -1), operand=False), found)
    return found


def _note(graph: Graph, name: str, place: InFront, found: dict[str, InFront]) -> None:
    while name not in found:
        found[name] = place
        k = graph.made.get(name)
        if k is None:
            return
        node = graph.nodes[k]
        if node.op_type in _MASKS and not place.operand:
            for operand in node.input:
                _note(graph, operand, InFront(place.axis, operand=True), found)
            return
        if "quantize" not in node.op_type.lower():
            return
        name = node.input[0]
