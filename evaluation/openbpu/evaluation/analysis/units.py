"""What is compared: the tensors that both models have, and what makes each of them in the quantized one.

    float    x → Conv → BatchNormalization → c → Mul, Sigmoid → y
    QDQ      x → Q → DQ → Conv → c → Q → DQ → Sigmoid, Mul → y → Q → DQ
    units    [x]         [Conv: c]             [Sigmoid, Mul: y]         cut where both have a tensor

A unit is a node of the quantized model with the pair behind it, together with nodes in front of it whose
results the float model does not have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnx import NodeProto

from openbpu.arch.errors import ModelError, must
from openbpu.compiler.ir.graph import Origin
from openbpu.compiler.reader.origin import origin_of
from openbpu.evaluation.analysis.cut import Graph, Kind
from openbpu.evaluation.analysis.masked import InFront, in_front_of_softmax
from openbpu.evaluation.analysis.rounding import DEQUANTIZE, QUANTIZE, Rounding, roundings
from openbpu.quantization.onnx.classes import TABLE
from openbpu.quantization.onnx.classes import Kind as Role
from openbpu.quantization.onnx.nodes import attribute, reads
from openbpu.quantization.onnx.scaled import is_scaled

INPUT = "Input"
_MOVES = frozenset(row.op for row in TABLE.values() if row.kind is Role.KEEP) | {
    *("Relu", "Pad", "Resize", "Concat")  # where the grid stays the same
}
_RAW = re.compile(r"_QuantizeLinear_Input(_\d+)?$")


@dataclass(frozen=True, slots=True)
class Unit:
    """A node of the quantized model and its result.

    index: of the node, −1 for an input of the model · tensor: its name in the float model · raw: in the
    quantized one · rounding: the pair behind it, if any · moved: whether it only moves codes of one grid ·
    nodes: all that belong to it, pairs too, by index, in order · leaves: what they read of other units, in
    the quantized model · softmax: how its result reaches a Softmax, None for not.
    """

    index: int
    node: str
    op: str
    tensor: str
    raw: str
    rounding: Rounding | None
    moved: bool
    nodes: tuple[int, ...]
    leaves: tuple[str, ...]
    origin: Origin | None
    softmax: InFront | None = None

    @property
    def value(self) -> str:
        """The tensor of the quantized model that other nodes read: behind the pair."""
        return self.rounding.result if self.rounding else self.raw


@dataclass(frozen=True, slots=True)
class Match:
    """Units in the order of the quantized model. aliases: its tensors that a unit ends in → the float's."""

    units: tuple[Unit, ...]
    aliases: Mapping[str, str]


def match(model: Graph, quantized: Graph, kinds: Mapping[str, Kind], found: Mapping[str, Kind]) -> Match:
    """Return what two models have in common; kinds: of the tensors of the float model, found: of the other.

    Tensors belong together by name, nodes whose results have other names by their own name, or by operator
    and module where only one of each has these; what `quantize` scaled per channel belongs to nothing.
    Raises ModelError where nothing but inputs is common.
    """
    pairs = roundings(quantized)
    named = _Names(model, quantized, kinds, found)
    ends: list[tuple[int, str, str, Rounding | None]] = [
        (-1, name, name, pairs[name]) for name in quantized.fed if name in pairs
    ]
    results = {pair.result for pair in pairs.values()}
    for index, node in enumerate(quantized.nodes):
        ends_codes = (
            node.op_type == DEQUANTIZE
            and node.output[0] in quantized.outputs
            and node.output[0] not in results
        )
        if is_scaled(node) or (node.op_type in {QUANTIZE, DEQUANTIZE, "Constant"} and not ends_codes):
            continue  # what is scaled per channel is nothing that the float model has
        for place, raw in enumerate(node.output):
            tensor = named.of(node, place, raw, pairs.get(raw)) if raw else None
            if tensor is not None:
                ends.append((index, raw, tensor, pairs.get(raw)))
    if all(index < 0 for index, *_ in ends):
        fix = "give the float model that the quantized one was made of"
        allowed = "tensors with the names of the float model's"
        raise ModelError(must(quantized.where, "the model", f"one with {allowed}", "one with none", fix))
    return _cut(quantized, ends)


def _cut(quantized: Graph, ends: list[tuple[int, str, str, Rounding | None]]) -> Match:
    aliases = {name: name for name in quantized.fed}
    for _, raw, tensor, pair in ends:
        aliases[raw] = tensor
        if pair:
            aliases[pair.result] = tensor
    softmax = in_front_of_softmax(quantized)
    grids = {name: pair for _, raw, _, pair in ends if pair for name in (raw, pair.result)}
    units = []
    for index, raw, tensor, pair in ends:
        value = pair.result if pair else raw
        nodes, leaves = _cone(quantized, value, raw, aliases)
        node = quantized.nodes[index] if index >= 0 else None
        said = origin_of(node, node.name) if node is not None else None
        name = (node.name or raw) if node is not None else raw
        units.append(
            Unit(
                index, name, node.op_type if node is not None else INPUT, tensor, raw, pair,
                _moves(node, pair, grids), nodes, leaves, said, softmax.get(raw),
            )
        )  # fmt: skip
    return Match(tuple(units), aliases)


def _cone(
    graph: Graph, value: str, raw: str, aliases: Mapping[str, str]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the nodes that make `value` from tensors of other units, and these."""
    todo, nodes, leaves = [value], set[int](), dict[str, None]()
    while todo:
        name = todo.pop()
        own = name in {value, raw}
        if name in aliases and (not own or name in graph.fed):
            leaves[name] = None
            continue
        k = graph.made.get(name)
        if k is not None and k not in nodes:
            nodes.add(k)
            todo += reads(graph.nodes[k])
    return tuple(sorted(nodes)), tuple(leaves)


def _moves(node: NodeProto | None, pair: Rounding | None, grids: Mapping[str, Rounding]) -> bool:
    """Whether a node puts codes in other places, or clamps them at zero, and keeps their grid."""
    if node is None or pair is None or not node.input or node.op_type not in _MOVES:
        return False
    if node.op_type == "Resize" and attribute(node, "mode", "nearest") != "nearest":
        return False
    read = node.input if node.op_type == "Concat" else node.input[:1]
    return all(name in grids and grids[name].same_grid(pair) for name in read)


class _Names:
    """Which tensor of the float model a result of the quantized one is."""

    def __init__(
        self, model: Graph, quantized: Graph, kinds: Mapping[str, Kind], found: Mapping[str, Kind]
    ) -> None:
        self._kinds, self._found = kinds, found
        self._nodes = {node.name: node for node in model.nodes if node.name}
        ours, theirs = dict(_scoped(model)), dict(_scoped(quantized))
        self._scopes = {id(node): ours[key] for key, node in theirs.items() if key in ours}
        last = zip(quantized.outputs, model.outputs, strict=False)
        self._outputs = dict(last) if len(model.outputs) == len(quantized.outputs) else {}

    def of(self, node: NodeProto, place: int, raw: str, pair: Rounding | None) -> str | None:
        """Return the float model's name of a result; None where it has none."""
        value = pair.result if pair else raw
        names = [n for n in (raw, value, _RAW.sub("", raw)) if self._fits(n, raw)]
        return names[0] if names else next(self._others(node, place, raw, value), None)

    def _others(self, node: NodeProto, place: int, raw: str, value: str) -> Iterator[str]:
        """Yield names by the node and by its module, and of an output by its place, that nothing here has."""
        names = [self._outputs[n] for n in (raw, value) if n in self._outputs]
        others = [self._nodes.get(node.name), self._scopes.get(id(node))]
        same = (other for other in others if other is not None and other.op_type == node.op_type)
        names += [other.output[place] for other in same if place < len(other.output)]
        yield from (n for n in names if self._fits(n, raw) and n not in self._found)

    def _fits(self, name: str, raw: str) -> bool:
        a, b = self._kinds.get(name), self._found.get(raw)
        return a is not None and b is not None and a.elem == b.elem and _may_equal(a.shape, b.shape)


def _may_equal(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether shapes may be the same; a size of 1 may be an unknown one, a scalar an unknown rank."""
    return (
        not a or not b or (len(a) == len(b) and all(1 in {m, n} or m == n for m, n in zip(a, b, strict=True)))
    )


def _scoped(graph: Graph) -> Iterator[tuple[tuple[str, str], NodeProto]]:
    """Yield the nodes that alone have their operator in their module."""
    said = [(origin_of(n, n.name).scope, n.op_type) for n in graph.nodes]
    counts = Counter(said)
    yield from (
        (key, node) for key, node in zip(said, graph.nodes, strict=True) if key[0] and counts[key] == 1
    )
