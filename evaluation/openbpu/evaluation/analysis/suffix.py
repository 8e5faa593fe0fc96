"""What a model makes of another value of one of its tensors: only what lies behind it is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import helper

from openbpu.arch.arrays import Array
from openbpu.evaluation.analysis.cut import Cut, Graph, Kind
from openbpu.quantization.onnx.nodes import reads, rename_reads


class Behind:
    """Finds what lies behind the tensors of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        known = set(graph.constants)
        self._reads = [tuple(reads(node)) for node in graph.nodes]
        self._fixed = set[int]()
        for k, node in enumerate(graph.nodes):
            if all(name in known for name in self._reads[k]):
                self._fixed.add(k)
                known.update(node.output)

    def nodes(self, changed: Sequence[str]) -> list[int]:
        """Return the nodes that depend on these tensors and that the outputs need, in order.

        With those that make what they read of constants alone.
        """
        touched, found = set(changed), set[int]()
        needed = set(self.graph.needed(self.graph.outputs, changed))
        for k, node in enumerate(self.graph.nodes):
            if k in needed and any(name in touched for name in self._reads[k]):
                found.add(k)
                touched.update(name for name in node.output if name not in changed)
        made = [name for k in found for name in self._reads[k]]
        fixed = {k for k in self.graph.needed(made, changed) if k in self._fixed}
        return sorted(found | fixed)

    def reads(self, changed: Sequence[str]) -> list[str]:
        """Return the tensors in front that what lies behind reads, without `changed` and constants."""
        nodes = self.nodes(changed)
        made = {name for k in nodes for name in self.graph.nodes[k].output}
        read = dict.fromkeys(name for k in nodes for name in self._reads[k])
        inside = made | set(changed) | set(self.graph.constants)
        return [name for name in read if name not in inside]


class Suffix:
    """The part of a model behind some tensors, ready to run.

    kinds: of the model's tensors · instead: tensors behind that are read (and given, as outputs) as another
    one of the model, which rounds nothing.
    """

    def __init__(
        self, behind: Behind, changed: Sequence[str], kinds: Mapping[str, Kind], instead: Mapping[str, str]
    ) -> None:
        graph = behind.graph
        self.changed, self.needs = tuple(changed), behind.reads(changed)
        fed = {v.name: v for v in graph.inputs}
        given = {
            name: fed.get(name) or helper.make_tensor_value_info(name, kinds[name].elem, None)
            for name in (*self.changed, *self.needs)
        }
        nodes = [rename_reads(graph.nodes[k], instead) for k in behind.nodes(changed)]
        made = {*self.changed, *(name for node in nodes for name in node.output)}
        self._outputs = {name: instead.get(name, name) for name in graph.outputs}
        self.kept = [name for name in graph.outputs if name not in made]
        self._cut = Cut(graph, nodes, [n for n in self._outputs.values() if n in made], given)

    def run(self, values: Mapping[str, Array], changed: Array) -> dict[str, Array]:
        """Return the outputs with another value of the tensors; values: of `needs`, and of `kept` outputs."""
        feed = {name: values[name] for name in self.needs} | dict.fromkeys(self.changed, changed)
        made = self._cut.run(feed)
        return {name: made[own] if own in made else values[name] for name, own in self._outputs.items()}
