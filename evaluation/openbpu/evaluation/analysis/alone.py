"""Units on their own: each computed in its quantized form from what the float model makes of its inputs.

    float run   x ──► [1/ W → DQ ┐
                       x ───────► Conv → c → Q → DQ ] ──► what only this Conv, its weights and its pair change

All units of a chunk are one model; every tensor that a unit computes has the number of the unit before its
name, so that no unit reads another's result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from onnx import NodeProto, helper

from openbpu.evaluation.analysis.cut import Array, Cut, Graph, Kind
from openbpu.evaluation.analysis.units import Unit
from openbpu.quantization.onnx.net import remake, rename_reads


class Alone:
    """Some units, ready to run. aliases: tensors of the quantized model → those of the float model."""

    def __init__(
        self, graph: Graph, units: Sequence[Unit], aliases: Mapping[str, str], kinds: Mapping[str, Kind]
    ) -> None:
        self.units = [unit for unit in units if not unit.moved]
        self._leaves = {leaf: aliases[leaf] for unit in self.units for leaf in unit.leaves}
        nodes = [node for k, unit in enumerate(self.units) for node in _own(graph, k, unit)]
        wanted = [name for k, unit in enumerate(self.units) for name in _ends(graph, k, unit)]
        fed = {v.name: v for v in graph.inputs}
        given = {
            leaf: fed.get(leaf) or helper.make_tensor_value_info(leaf, kinds[tensor].elem, None)
            for leaf, tensor in self._leaves.items()
        }
        self._cut = Cut(graph, nodes, wanted, given)

    @property
    def needs(self) -> list[str]:
        """Tensors of the float model that `run` takes."""
        return list(dict.fromkeys(self._leaves.values()))

    def run(self, values: Mapping[str, Array]) -> Iterator[tuple[Unit, Array, Array]]:
        """Yield each unit with its result before and behind its pair, from tensors of the float model."""
        made = self._cut.run({leaf: values[tensor] for leaf, tensor in self._leaves.items()})
        for k, unit in enumerate(self.units):
            raw, value = (made.get(f"{k}/{name}") for name in (unit.raw, unit.value))
            fed = values.get(unit.tensor)
            if value is not None and (raw is not None or fed is not None):
                yield unit, raw if raw is not None else fed, value  # type: ignore[misc]  # one is there


def _own(graph: Graph, k: int, unit: Unit) -> Iterator[NodeProto]:
    """Yield copies of a unit's nodes, in order, with names of their own."""
    mine = {name: f"{k}/{name}" for i in unit.nodes for name in graph.nodes[i].output if name}
    for i in unit.nodes:
        node = rename_reads(graph.nodes[i], mine)
        copy = remake(node, outputs=[mine.get(name, name) for name in node.output])
        copy.name = f"{k}/{node.name}"
        yield copy


def _ends(graph: Graph, k: int, unit: Unit) -> list[str]:
    made = {name for i in unit.nodes for name in graph.nodes[i].output}
    return [f"{k}/{name}" for name in dict.fromkeys((unit.raw, unit.value)) if name in made]
