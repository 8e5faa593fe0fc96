"""One walk over the nodes in order: normalise each, infer what it makes, fold it if that is constant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from onnx import NodeProto

from openbpu.arch.errors import OpenbpuError
from openbpu.arch.shape_data import check_axes
from openbpu.compiler.ir.graph import Node, Origin, Value
from openbpu.compiler.reader import elements
from openbpu.compiler.reader.branches import inlined_branch, normalised_subgraphs
from openbpu.compiler.reader.constants import constant_of
from openbpu.compiler.reader.fold import Budget, folded
from openbpu.compiler.reader.infer import Inference
from openbpu.compiler.reader.nodes import node_of, where
from openbpu.compiler.reader.origin import origin_of
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.ranges import check_range
from openbpu.compiler.reader.rules import normalised
from openbpu.compiler.reader.schemas import schema_of
from openbpu.compiler.reader.scope import Names, Scope, constant, value_of
from openbpu.compiler.reader.tensors import TensorReader, checked_shape


@dataclass(slots=True)
class Walk:
    """The state of the walk; `nodes` is its result. Names in `kept` (outputs, captures) are not replaced.

    `budget` is what constant folding may make.
    """

    scope: Scope
    inference: Inference
    tensors: TensorReader
    opsets: Mapping[str, int]
    kept: frozenset[str]
    budget: Budget
    nodes: list[Node] = field(default_factory=list)
    node_names: Names = field(default_factory=Names)
    alias: dict[str, str] = field(default_factory=dict)

    def visit(self, proto: NodeProto) -> None:
        """Read one node of the model; everything it depends on was read before."""
        node = node_of(proto, self.tensors)
        name = self.node_names.fresh(node.name or f"{node.op}_{len(self.node_names)}")
        try:
            self.read(replace(node, name=name, origins=(origin_of(proto, name),)))
        except (OpenbpuError, MemoryError):
            raise
        except Exception as error:
            # A rule, or onnx, met arguments that contradict each other: that is all we can say.
            fix = "export the model again"
            found = str(error) or type(error).__name__
            raise problem(where(proto), "arguments", "consistent", found, fix) from error

    def read(self, node: Node) -> None:
        """Bring a node into the one form and add what stays of it."""
        node = replace(node, inputs=tuple(self.alias.get(name, name) for name in node.inputs))
        branch = inlined_branch(node, self.scope, self.tensors)
        if branch is not None:
            for inner in branch:
                self.read(replace(inner, name=self.node_names.fresh(inner.name)))
            return
        node = normalised_subgraphs(node, self.scope, self.tensors)
        for new in normalised(_without_unused(node, self.scope, self.opsets), self.scope):
            self.add(self._named(new, node.name, node.origins))

    def add(self, node: Node) -> None:
        """Add a node in its final form: as a constant, as another name of its input, or as itself."""
        if node.op == "Constant" and not node.domain:
            self.scope.define(constant(node.outputs[0], constant_of(node, self.tensors)))
            return
        place, shapes = f"node '{node.name}' ({node.op})", [self.scope.shape(name) for name in node.inputs]
        check_axes(place, "" if node.domain else node.op, shapes)
        types = self.inference.outputs(node, self.scope)
        made = [value_of(name, known) for name, known in zip(node.outputs, types, strict=True) if name]
        _check_size(node, made)
        arrays = folded(node, made, self.scope, self.opsets[""], self.budget)
        if arrays is not None:
            for value, array in zip(made, arrays, strict=True):
                self.scope.define(constant(value.name, array))
            return
        check_range(node, self.scope)
        for name, known in zip(node.outputs, types, strict=True):
            if name:
                self.scope.define_typed(name, known)
        self._append(node)

    def _append(self, node: Node) -> None:
        result = node.outputs[0] if node.outputs else ""
        if result in self.kept or not _does_nothing(node, self.scope):
            self.nodes.append(node)
        else:
            self.alias[result] = node.inputs[0]

    def _named(self, node: Node, name: str, origins: tuple[Origin, ...]) -> Node:
        if node.name:
            return node
        return replace(node, name=self.node_names.fresh(f"{name}_{node.op}"), origins=origins)


def _without_unused(node: Node, scope: Scope, opsets: Mapping[str, int]) -> Node:
    """Cut off optional outputs at the end that nothing reads (masks, indices, running means)."""
    schema = schema_of(node.op, opsets.get(node.domain, 0), node.domain)
    if schema is None or schema.variadic_output:
        return node
    outputs = list(node.outputs)
    while len(outputs) > max(1, schema.outputs[0]) and outputs[-1] not in scope.used:
        outputs.pop()
    return node if len(outputs) == len(node.outputs) else replace(node, outputs=tuple(outputs))


def _does_nothing(node: Node, scope: Scope) -> bool:
    """Whether the output is the first input, bit for bit."""
    if node.domain or len(node.outputs) != 1 or not node.inputs:
        return False
    if node.op == "Identity":
        return True
    if node.op == "Transpose":
        perm: Any = node.attrs.get("perm")
        return perm is not None and tuple(perm) == tuple(range(len(perm)))
    if node.op == "Cast":
        source = scope.dtype(node.inputs[0])
        return source == scope.dtype(node.outputs[0]) != elements.OTHER
    shapes = scope.shape(node.inputs[0]), scope.shape(node.outputs[0])
    same = shapes[0] is not None and shapes[0] == shapes[1]
    return same and node.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand")


def _check_size(node: Node, made: Sequence[Value]) -> None:
    for value in made:
        if value.shape is None:
            continue
        place = f"node '{node.name}' ({node.op}): output '{value.name}'"
        sized = value.dtype not in (elements.OTHER, elements.STRING)
        checked_shape(value.shape, place, elements.bits_of(value.dtype) if sized else 8, "use smaller inputs")
