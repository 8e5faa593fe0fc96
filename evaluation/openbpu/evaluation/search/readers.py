"""Which nodes read which int8 tensor: what has to become int16 together, by the names that a config knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto

from openbpu.arch.dtypes import DType
from openbpu.arch.onnx_ops import PRODUCTS
from openbpu.compiler.reader.origin import origin_of
from openbpu.evaluation.analysis.cut import Graph
from openbpu.evaluation.analysis.units import Match, Unit
from openbpu.quantization.onnx.classes import TABLE, Kind
from openbpu.quantization.onnx.handing import NO_VALUES
from openbpu.quantization.onnx.nodes import reads


@dataclass(frozen=True, slots=True)
class Readers:
    """An int8 tensor of the float model, and the nodes that make it int16 when all of them read int16.

    tensor: as the float model calls it · value: as the quantized one calls what is behind its pair.
    """

    tensor: str
    value: str
    nodes: tuple[str, ...]


class Names:
    """What nodes of the quantized model are called in a config: by their name, or by what they make."""

    def __init__(self, model: Graph) -> None:
        counts = Counter(node.name for node in model.nodes if node.name)
        self._nodes = {name for name, count in counts.items() if count == 1}
        self._taken, self._tensors = set(counts), set(model.made)

    def of(self, node: NodeProto) -> str | None:
        """Return the name; None for a node that quantization made, which no config can name."""
        if node.name in self._nodes:
            return str(node.name)
        made = next((name for name in node.output if name in self._tensors), None)
        return None if made in self._taken else made


def find_readers(
    quantized: Graph, match: Match, names: Names, fixed: frozenset[str] = frozenset()
) -> list[Readers]:
    """Return the int8 tensors that int16 can be asked for, in the order of the network.

    fixed: tensors made by nodes whose type is asked for already; the search leaves these nodes alone. A
    tensor that nothing on the BPU computes with (an output, what goes to a node in float) is int16 with the
    node that makes it.
    """
    of = _Readers(quantized, match, names, fixed)
    found = []
    for unit in match.units:
        if unit.rounding is None or unit.rounding.dtype.itemsize != 1 or unit.moved:
            continue
        nodes = of.names(unit)
        if nodes:
            found.append(Readers(unit.tensor, unit.value, nodes))
    return found


class _Readers:
    def __init__(self, graph: Graph, match: Match, names: Names, fixed: frozenset[str]) -> None:
        self._graph, self._names, self._fixed, self._aliases = graph, names, fixed, match.aliases
        self._moved = {u.raw: u.value for u in match.units if u.moved}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in graph.nodes:
            for name in dict.fromkeys(reads(node)):
                self._readers.setdefault(name, []).append(node)

    def names(self, unit: Unit) -> tuple[str, ...]:
        """Return the nodes to ask; none where one of them cannot be asked."""
        nodes, values, is_handed_out = [], set[str](), False
        for value, reader in self._found(unit.value, values):
            if _computes_in_float(reader):
                is_handed_out = True
            elif not _is_bound(reader, value, self._graph):
                nodes.append(reader)
        is_handed_out |= bool(values & set(self._graph.outputs))
        if not nodes and is_handed_out and unit.index >= 0:
            nodes.append(self._graph.nodes[unit.index])
        if any(makes_any(node, self._fixed, self._aliases) for node in nodes):
            return ()
        found = [self._names.of(node) for node in nodes]
        return tuple(dict.fromkeys(name for name in found if name is not None)) if all(found) else ()

    def _found(self, value: str, values: set[str]) -> Iterator[tuple[str, NodeProto]]:
        """Yield what reads a tensor, or what is moved from it, with the tensor it reads; notes these."""
        values.add(value)
        for node in self._readers.get(value, ()):
            moved = [self._moved[name] for name in node.output if name in self._moved]
            if moved:
                for other in moved:
                    yield from self._found(other, values)
            elif node.op_type not in NO_VALUES:
                yield value, node


def makes_any(node: NodeProto, tensors: frozenset[str], aliases: Mapping[str, str]) -> bool:
    """Whether a node of the quantized model makes one of these tensors of the float model."""
    return not tensors.isdisjoint(aliases.get(name, name) for name in node.output)


def _computes_in_float(node: NodeProto) -> bool:
    """Whether a node is none of the BPU: it was left float, or there is no such operator there."""
    row = TABLE.get(node.op_type)
    return row is None or row.kind is Kind.CPU or origin_of(node, node.name).stays_float


def _is_bound(node: NodeProto, value: str, graph: Graph) -> bool:
    """Whether a node takes a tensor in int8 whatever is asked: the second of two computed operands."""
    places = [place for place, name in enumerate(node.input) if name == value]
    types: Mapping[int, DType] = TABLE[node.op_type].types
    if node.op_type in PRODUCTS and _is_weight(node.input[0], graph):
        return False  # the constant is the int8 side
    return all(types.get(place) is DType.INT8 for place in places)


def _is_weight(name: str, graph: Graph) -> bool:
    maker = graph.made.get(name)
    return maker is not None and bool(graph.constant_names.intersection(graph.nodes[maker].input[:1]))


def shared(found: Sequence[Readers]) -> list[tuple[tuple[str, ...], list[Readers]]]:
    """Return the tensors by the nodes that read them: what has the same readers is one decision."""
    groups: dict[tuple[str, ...], list[Readers]] = {}
    for readers in found:
        groups.setdefault(tuple(sorted(readers.nodes)), []).append(readers)
    return [(members[0].nodes, members) for members in groups.values()]
