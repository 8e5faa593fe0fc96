"""One form for every operator: the rules that bring a node of any opset to the form of opset 21 or newer."""

from __future__ import annotations

from collections.abc import Sequence

from openbpu.compiler.ir.graph import Node
from openbpu.compiler.reader.rules import arguments, checked, contrib, explicit, meaning, resize
from openbpu.compiler.reader.rules.table import FORMS, UPGRADES
from openbpu.compiler.reader.schemas import FORM_OPSET
from openbpu.compiler.reader.scope import Scope

__all__ = [
    "FORMS",
    "FORM_OPSET",
    "UPGRADES",
    "arguments",
    "checked",
    "contrib",
    "explicit",
    "meaning",
    "normalised",
    "resize",
]


def normalised(node: Node, scope: Scope) -> Sequence[Node]:
    """Return the nodes that compute the same at `FORM_OPSET` or the model's newer opset."""
    upgrade = UPGRADES.get((node.domain, node.op))
    if upgrade is None or scope.opsets.get(node.domain, 0) >= upgrade.before:
        nodes: Sequence[Node] = (node,)
    else:
        nodes = upgrade.rewrite(node, scope)
    return [done for new in nodes for done in _in_form(new, scope)]


def _in_form(node: Node, scope: Scope) -> Sequence[Node]:
    rewrite = FORMS.get((node.domain, node.op))
    return (node,) if rewrite is None else rewrite(node, scope)
