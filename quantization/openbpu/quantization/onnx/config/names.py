"""What a name or pattern of a `quant_config` means in the user's model."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto

from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.nodes import name_of
from openbpu.quantization.onnx.scaled import part_of


@dataclass(frozen=True, slots=True)
class Directory:
    """The nodes of a model by name. `early`: names of nodes that are computed or left out beforehand.

    A node is also found by what it makes: not all exporters name nodes. One that was written out in several
    is all of these.
    """

    nodes: Mapping[str, tuple[int, ...]]
    tensors: Mapping[str, int]
    early: frozenset[str]

    @property
    def names(self) -> list[str]:
        """Return all names of nodes, as they are shown."""
        return [*self.nodes, *self.early]

    def has(self, name: str) -> bool:
        """Whether `name` is that of a node, one computed early or not, or a pattern that matches one."""
        return name in self.early or bool(self.find(name))

    def find(self, name: str) -> tuple[int, ...]:
        """Return the nodes that `name`, or a pattern like `head.*`, names; none of those computed early."""
        if name in self.nodes:
            return self.nodes[name]
        if name in self.tensors:
            return (self.tensors[name],)
        if name in self.early or not is_pattern(name):
            return ()
        known = (indices for node, indices in self.nodes.items() if fnmatch.fnmatchcase(node, name))
        return tuple(index for indices in known for index in indices)


def is_pattern(name: str) -> bool:
    """Whether a name has signs of a pattern: `*`, `?` or `[`."""
    return any(sign in name for sign in "*?[")


def directory(every: Sequence[NodeProto], model: Net) -> Directory:
    """Return the names in `model`, of whose nodes `every` has some more that constants were made of."""
    nodes: dict[str, tuple[int, ...]] = {}
    for index, node in enumerate(model.nodes):
        for name in dict.fromkeys(filter(None, (name_of(node), part_of(node)))):
            nodes[name] = (*nodes.get(name, ()), index)
    tensors = {name: index for index, node in enumerate(model.nodes) for name in node.output if name}
    early = {name_of(node) for node in every} - nodes.keys() - tensors.keys()
    return Directory(nodes, tensors, frozenset(early))
