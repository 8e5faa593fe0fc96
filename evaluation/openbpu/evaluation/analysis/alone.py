"""Parts of a model on their own, each computed from tensors that are given, all of them in one run.

    float run   x ──► [0/ W → DQ ┐
                       x ───────► Conv → c → Q → DQ ] ──► what only this Conv, its weights and its pair change

Every tensor that a part computes has the number of the part before its name, so that no part reads another's
result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto, helper

from openbpu.arch.arrays import Array
from openbpu.evaluation.analysis.cut import Cut, Graph, Kind
from openbpu.evaluation.analysis.units import Unit
from openbpu.quantization.onnx.nodes import remake, rename_reads


@dataclass(frozen=True, slots=True)
class Part:
    """Nodes by index, in order; the tensors that they read and are given; those that are wanted of them."""

    nodes: tuple[int, ...]
    leaves: tuple[str, ...]
    ends: tuple[str, ...]


class Parts:
    """Some parts of a graph, ready to run. elems: element types of the tensors that are given."""

    def __init__(self, graph: Graph, parts: Sequence[Part], elems: Mapping[str, int]) -> None:
        self.parts = parts
        self.leaves = list(dict.fromkeys(leaf for part in parts for leaf in part.leaves))
        nodes = [node for k, part in enumerate(parts) for node in _own(graph, k, part)]
        made = {name for node in nodes for name in node.output}
        wanted = [f"{k}/{name}" for k, part in enumerate(parts) for name in part.ends]
        fed = {v.name: v for v in graph.inputs}
        given = {
            leaf: fed.get(leaf) or helper.make_tensor_value_info(leaf, elems[leaf], None)
            for leaf in self.leaves
        }
        self._cut = Cut(graph, nodes, [name for name in wanted if name in made], given)

    def run(self, values: Mapping[str, Array]) -> list[dict[str, Array]]:
        """Return for every part what is wanted of it, as far as its nodes make it."""
        made = self._cut.run({leaf: values[leaf] for leaf in self.leaves})
        return [
            {name: made[f"{k}/{name}"] for name in part.ends if f"{k}/{name}" in made}
            for k, part in enumerate(self.parts)
        ]


def _own(graph: Graph, k: int, part: Part) -> Iterator[NodeProto]:
    """Yield copies of the nodes of a part with names of their own."""
    mine = {name: f"{k}/{name}" for i in part.nodes for name in graph.nodes[i].output if name}
    for i in part.nodes:
        node = rename_reads(graph.nodes[i], mine)
        copy = remake(node, outputs=[mine.get(name, name) for name in node.output])
        copy.name = f"{k}/{i}/{node.name}"  # names are optional, and must differ where they are given
        yield copy


class Alone:
    """Units in their quantized form. aliases: tensors of the quantized model → those of the float model."""

    def __init__(
        self, graph: Graph, units: Sequence[Unit], aliases: Mapping[str, str], kinds: Mapping[str, Kind]
    ) -> None:
        self.units = [unit for unit in units if not unit.moved]
        parts = [Part(u.nodes, u.leaves, (u.raw, u.value)) for u in self.units]
        elems = {leaf: kinds[aliases[leaf]].elem for part in parts for leaf in part.leaves}
        self._parts = Parts(graph, parts, elems)
        self._aliases = aliases

    @property
    def needs(self) -> list[str]:
        """Tensors of the float model that `run` takes."""
        return list(dict.fromkeys(self._aliases[leaf] for leaf in self._parts.leaves))

    def run(self, values: Mapping[str, Array]) -> Iterator[tuple[Unit, Array, Array]]:
        """Yield each unit with its result before and behind its pair, from tensors of the float model."""
        made = self._parts.run({leaf: values[self._aliases[leaf]] for leaf in self._parts.leaves})
        for unit, found in zip(self.units, made, strict=True):
            if unit.value in found:
                value = found[unit.value]
                raw = found.get(unit.raw, values.get(unit.tensor))  # of an input, what is fed
                yield unit, value if raw is None else raw, value
