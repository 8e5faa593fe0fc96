"""Arguments that onnx's own shape inference does not survive are refused before it sees them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from openbpu.compiler.ir.graph import Node
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.rules.table import form
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
