"""BPU nodes → operators of the program: geometry collapsed to what an engine sees, names to tensor ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openbpu.arch.dtypes import DType
from openbpu.arch.program import Move, Operator
from openbpu.arch.shapes import Ints, collapse
from openbpu.compiler.ir import Node
from openbpu.compiler.ir.dialect import form_of
from openbpu.compiler.lower.tensors import TensorTable


class OperatorBuilder:
    """Turns the BPU nodes of one segment into operators, in order; their forms say how (`ir.dialect`)."""

    def __init__(self, table: TensorTable) -> None:
        self.table = table
        self.operators: list[Operator] = []
        self._entry = -1

    def add(self, node: Node, entry: int) -> None:
        """Append what `node` becomes; `entry` is its line in the debug map. A Reshape becomes a view."""
        self._entry = entry
        form_of(node).lower(self, node)

    def shape(self, name: str) -> Ints:
        """Return the static shape of a value."""
        return self.table.graph.values[name].shape or ()

    def push(self, node: Node, **geometry: Any) -> None:
        """Append the operator of a node: its inputs, its constants, its attributes, and the geometry."""
        form = form_of(node)
        if form.makes is None:
            raise TypeError(f"{node.op}: must become an operator to be appended as one")
        names = form.operands * len(node.inputs) if form.many else form.operands
        operands = list(zip(names, node.inputs, strict=not form.many))
        inputs = self._ids([value for name, value in operands if value and not form.is_constant(name)])
        outputs = self._ids(node.outputs)
        constants = {
            f"{name}_id": self.table.id_of(value) if value else -1
            for name, value in operands
            if form.is_constant(name)
        }
        attrs = {k: v for k, v in node.attrs.items() if k in form.makes.__dataclass_fields__}
        fields = {**constants, **attrs, **geometry}
        self.operators.append(form.makes(inputs=inputs, outputs=outputs, node=self._entry, **fields))

    def push_move(self, source: str, target: str, shape: Ints, strides: Ints, offset: int = 0) -> None:
        """Append a Move; `shape` and `strides` walk `source` from `offset`, in elements."""
        collapsed, (packed,) = collapse(shape, (strides,), least=1)
        inputs, outputs = self._ids((source,)), self._ids((target,))
        walk = Move(
            inputs=inputs,
            outputs=outputs,
            node=self._entry,
            shape=collapsed,
            strides=packed,
            offset=offset,
        )
        self.operators.append(walk)

    def view(self, target: str, source: str) -> None:
        """Declare a value as a reshape of another."""
        self.table.make_view(target, source)

    def temporary(self, stem: str, shape: Ints, like: str) -> str:
        """Declare a tensor that no value of the graph stands for, of the type of `like`; returns its name."""
        return self.table.add_temporary(stem, shape, DType(self.table.graph.values[like].dtype))

    def _ids(self, names: Sequence[str]) -> Ints:
        return tuple(self.table.id_of(n) for n in names)
