"""The dialect of the BPU: what a node of domain "bpu" is made of, by name, and what it becomes.

A form is declared where such nodes are emitted, over the function that lowers them:

    @form(MatMul, "a b table?", geometry="a_batch b_batch m k n")
    def _matmul(b: Builder, node: Node) -> None: …

Operands are values, in this order: `name?` may be absent, `name*` is any number of them. Attributes are the
fields of the operator, but for tensor ids and the geometry, known when it is lowered; and `extra` ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Protocol

from openbpu.arch.definition.rooms import Room
from openbpu.arch.program import OPERATORS, Operator
from openbpu.compiler.ir.graph import Node

Ints = tuple[int, ...]
_IDS = ("inputs", "outputs", "node")


class Builder(Protocol):
    """What a form is lowered with: shapes, and the operators of the segment, one after the other."""

    def shape(self, name: str) -> Ints:
        """Return the static shape of a value."""

    def push(self, node: Node, **geometry: Any) -> None:
        """Append the operator of a node; its attributes and operands are those of the node."""

    def push_move(self, source: str, target: str, shape: Ints, strides: Ints, offset: int = 0) -> None:
        """Append a Move; `shape` and `strides` walk `source` from `offset`, in elements."""

    def view(self, target: str, source: str) -> None:
        """Declare a value as a reshape of another: no operator."""

    def temporary(self, stem: str, shape: Ints, like: str) -> str:
        """Declare a tensor that no value stands for, of the type of `like`; returns its name."""


Lower = Callable[[Builder, Node], None]


@dataclass(frozen=True, slots=True)
class Form:
    """One kind of node. makes: the operator it becomes (None: a view) · operands by name, in order ·
    optional: those that may be absent · many: the last one is any number of them · attributes: all it may
    have · required: those without a default · defaults: of the others.
    """

    op: str
    makes: type[Operator] | None
    operands: tuple[str, ...]
    optional: frozenset[str]
    many: bool
    attributes: frozenset[str]
    required: frozenset[str]
    defaults: Mapping[str, Any]
    lower: Lower

    def index(self, name: str) -> int:
        """Return the position of an operand; raises ValueError when there is none of that name."""
        return self.operands.index(name)

    def may_lack(self, name: str) -> bool:
        """Whether there is an optional operand of that name."""
        return name in self.optional

    def is_constant(self, name: str) -> bool:
        """Whether an operand is a constant of the operator: a field of tensor ids, not one of its inputs."""
        return self.makes is not None and f"{name}_id" in self.makes.__dataclass_fields__

    def split(self, parts: dict[str, Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Return inputs and attributes of a node of these parts; raises TypeError for one too many or few."""
        attrs = {key: value for key, value in parts.items() if key not in self.operands}
        unknown, missing = attrs.keys() - self.attributes, self.required - attrs.keys()
        absent = {n for n in self.operands if n not in self.optional and not parts.get(n)}
        if unknown or missing or absent:
            wrong = ", ".join(sorted({*unknown, *missing, *absent}))
            raise TypeError(f"{self.op}: must be made of {self}, not with or without {wrong}")
        attrs = {**self.defaults, **attrs}
        if self.many:
            return tuple(parts[self.operands[0]]), attrs
        return tuple(parts.get(name, "") for name in self.operands), attrs

    def __str__(self) -> str:
        names = [f"{n}?" if n in self.optional else n for n in self.operands]
        return " ".join([*names, *sorted(self.attributes)])


FORMS: dict[str, Form] = {}
"""Every kind of node, by its name."""

LOWERED: Room[type[Operator], Form] = Room(
    "a node that becomes it", OPERATORS, "openbpu.compiler.ops", decorator="a function under @form({}, …)"
)


def form(
    makes: type[Operator] | None, operands: str, *, op: str = "", geometry: str = "", extra: str = ""
) -> Callable[[Lower], Lower]:
    """Declare a kind of node by the function that lowers it; `op`: its name, if not the operator's."""
    names = [part.strip("?*") for part in operands.split()]
    derived = (*_IDS, *geometry.split())
    own = () if makes is None else fields(makes)
    kept = [f for f in own if f.name not in derived and not f.name.endswith("_id")]

    def register(lower: Lower) -> Lower:
        made = Form(
            op or (makes.__name__ if makes else ""),
            makes,
            tuple(names),
            frozenset(n for n, part in zip(names, operands.split(), strict=True) if part.endswith("?")),
            operands.endswith("*"),
            frozenset(f.name for f in kept) | frozenset(extra.split()),
            frozenset(f.name for f in kept if f.default is MISSING) | frozenset(extra.split()),
            {f.name: f.default for f in kept if f.default is not MISSING},
            lower,
        )
        FORMS[made.op] = made
        if makes is not None and makes not in LOWERED:
            LOWERED.put(makes, made, lower.__module__)
        return lower

    return register


def form_of(node: Node) -> Form:
    """Return the form of a BPU node; raises KeyError when there is none."""
    return FORMS[node.op]


def operand(node: Node, name: str) -> str:
    """Return the value that a BPU node has for an operand; "" where it is absent."""
    return node.inputs[form_of(node).index(name)]


def with_operand(node: Node, name: str, value: str) -> Node:
    """Return a BPU node with another value for an operand."""
    index = form_of(node).index(name)
    return replace(node, inputs=(*node.inputs[:index], value, *node.inputs[index + 1 :]))


def bpu_node(op: str, output: str, origins: Sequence[Any] = (), name: str = "", **parts: Any) -> Node:
    """Return a BPU node that makes `output` of operands and attributes by name."""
    inputs, attrs = FORMS[op].split(parts)
    return Node(op, inputs, (output,), attrs, name, "bpu", tuple(origins))
