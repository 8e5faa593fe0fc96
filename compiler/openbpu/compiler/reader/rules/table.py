"""The two rule tables and the decorators that fill them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from openbpu.compiler.ir.graph import Node
from openbpu.compiler.reader.scope import Scope

Rewrite = Callable[[Node, Scope], Sequence[Node]]


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A rewrite for models whose opset is older than `before`."""

    before: int
    rewrite: Rewrite


ALWAYS = 2**31  # for operators that no opset should have any more
UPGRADES: dict[tuple[str, str], Upgrade] = {}
FORMS: dict[tuple[str, str], Rewrite] = {}


def upgrade(*ops: str, before: int) -> Callable[[Rewrite], Rewrite]:
    """Register the rewrite of operators whose meaning or interface changed in opset `before`."""

    def register(rewrite: Rewrite) -> Rewrite:
        UPGRADES.update({("", op): Upgrade(before, rewrite) for op in ops})
        return rewrite

    return register


def form(*ops: str, domain: str = "") -> Callable[[Rewrite], Rewrite]:
    """Register the rewrite that makes implicit arguments of operators explicit, at every opset."""

    def register(rewrite: Rewrite) -> Rewrite:
        FORMS.update({(domain, op): rewrite for op in ops})
        return rewrite

    return register


def without(attrs: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return attributes without some of them."""
    return {name: value for name, value in attrs.items() if name not in names}


def with_inputs(node: Node, inputs: Iterable[str], *dropped: str) -> Node:
    """Return the node with other inputs, trailing omitted ones cut off, without the attributes `dropped`."""
    kept = list(inputs)
    while kept and not kept[-1]:
        kept.pop()
    return replace(node, inputs=tuple(kept), attrs=without(node.attrs, *dropped))


def input_at(node: Node, position: int) -> str:
    """Name of an input, "" when it is omitted or not there."""
    return node.inputs[position] if position < len(node.inputs) else ""
