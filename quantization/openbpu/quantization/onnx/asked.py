"""Which types the nodes of a net shall read: what every way of asking for them comes down to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx import NodeProto

from openbpu.arch.dtypes import DType


@dataclass(frozen=True, slots=True)
class Types:
    """The types that were asked for, by what the nodes that are planned make first (see `key`).

    `nodes`: of all tensors that a node reads; FLOAT32: it stays float, on the CPU. `inputs`: of one of them,
    which wins. `outputs`: of the graph's outputs; FLOAT32: no pair behind them.
    """

    nodes: Mapping[str, DType] = field(default_factory=dict)
    inputs: Mapping[tuple[str, int], DType] = field(default_factory=dict)
    outputs: DType | None = None

    @property
    def has_int16(self) -> bool:
        """Whether int16 is asked for anywhere."""
        return DType.INT16 in {*self.nodes.values(), *self.inputs.values(), self.outputs}

    @property
    def output(self) -> DType | None:
        """The integers of the graph's outputs; None where nobody asked, and where they stay float."""
        return None if self.outputs is DType.FLOAT32 else self.outputs

    def is_float(self, node: NodeProto) -> bool:
        """Whether `node` stays float."""
        return self.nodes.get(key(node)) is DType.FLOAT32

    def of_node(self, node: NodeProto) -> DType | None:
        """Return the type that all inputs of `node` shall have; None: nobody asked, or it stays float."""
        return None if self.is_float(node) else self.nodes.get(key(node))

    def of(self, node: NodeProto, position: int) -> DType | None:
        """Return the type that input `position` of `node` shall have; None where nobody asked."""
        asked = self.inputs.get((key(node), position), self.nodes.get(key(node)))
        return None if asked is DType.FLOAT32 else asked


def key(node: NodeProto) -> str:
    """Return what tells a node from all others: names of nodes need not be unique, those of tensors are."""
    return next(filter(None, node.output), node.name)
