"""Arguments that onnx's own shape inference does not survive, or does not look at, are refused before it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from openbpu.compiler.ir.graph import Node
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.rules.table import form, input_at
from openbpu.compiler.reader.scope import Scope

_EQUATION = re.compile(r"[A-Za-z., ]*(->[A-Za-z. ]*)?")
_FIX = "export the model again"


@form("Einsum")
def einsum(node: Node, _: Scope) -> Sequence[Node]:
    """Shape inference never returns from an equation with other characters."""
    equation = str(node.attrs["equation"])
    if not _EQUATION.fullmatch(equation):
        raise problem(
            f"node '{node.name}' (Einsum)", "equation", "letters like 'ij,jk->ik'", repr(equation), _FIX
        )
    return [node]


@form("LayerNormalization", "RMSNormalization")
def layer_normalization(node: Node, scope: Scope) -> Sequence[Node]:
    """Shape inference reads memory that is not its own at an axis the input does not have."""
    rank, axis = scope.rank(node.inputs[0]), node.attrs.get("axis", -1)
    if rank is not None and not -rank <= axis < max(rank, 1):
        raise problem(f"node '{node.name}' ({node.op})", "axis", f"{-rank}..{rank - 1}", axis, _FIX)
    return [node]


@form("GatherND")
def gather_nd(node: Node, _: Scope) -> Sequence[Node]:
    """Shape inference reads memory that is not its own with a negative number of batch axes."""
    count = node.attrs.get("batch_dims", 0)
    if count < 0:
        raise problem(f"node '{node.name}' (GatherND)", "batch_dims", "0 or more", count, _FIX)
    return [node]


_OPERANDS = {
    "Conv": (0, 1, 2),
    "ConvTranspose": (0, 1, 2),
    "ConvInteger": (0, 1, 9),
    "QLinearConv": (0, 3, 8),
}
"""Where input, weight and bias of a convolution stand among its inputs."""


@form("ConvTranspose", "ConvInteger", "QLinearConv")
def convolution(node: Node, scope: Scope) -> Sequence[Node]:
    """Shape inference looks at neither channels nor groups."""
    check_convolution(node, scope)
    return [node]


def check_convolution(node: Node, scope: Scope) -> None:
    """Raise ModelError when channels, groups, kernel or bias of a convolution contradict each other."""
    x, w, b = (scope.shape(input_at(node, i)) for i in _OPERANDS[node.op])
    if x is None or w is None or len(x) < 2 or len(w) != len(x):
        return
    place, group = f"node '{node.name}' ({node.op})", int(node.attrs.get("group", 1))
    if group < 1 or w[0] % group:
        raise problem(place, "group", f"a divisor of {w[0]} (axis 0 of its weight)", group, _FIX)
    transposed = node.op == "ConvTranspose"
    channels, outputs = (w[0], w[1] * group) if transposed else (w[1] * group, w[0])
    if x[1] != channels:
        raise problem(place, "channels of its input", f"{channels} (weight {w}, group {group})", x[1], _FIX)
    kernel = tuple(node.attrs.get("kernel_shape", w[2:]))
    if kernel != w[2:]:
        raise problem(place, "kernel_shape", f"{w[2:]} as its weight", kernel, _FIX)
    if b is not None and b != (outputs,):
        raise problem(place, "shape of its bias", (outputs,), b, _FIX)
