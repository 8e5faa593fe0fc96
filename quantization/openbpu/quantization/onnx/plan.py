"""Decide which tensors get a Quantize/Dequantize pair, and with whose scale. No data is needed for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto

from openbpu.arch.dtypes import DType
from openbpu.arch.onnx_ops import DECISIONS
from openbpu.quantization.onnx.asked import Types
from openbpu.quantization.onnx.carriers import (
    fed_to_bpu,
    find_carriers,
    float_ends,
    handed_over,
    scale_sources,
)
from openbpu.quantization.onnx.classes import TABLE, Kind, data_inputs, kind_of
from openbpu.quantization.onnx.fuse import Fused, Units, find_fused, find_units
from openbpu.quantization.onnx.given import Given, Step, find_given
from openbpu.quantization.onnx.grids import find_grids
from openbpu.quantization.onnx.handing import Handed
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.nodes import attribute
from openbpu.quantization.onnx.sizes import settled
from openbpu.quantization.onnx.tail import find_tail

Slot = tuple[int, int]
"""(index of a node, position of an input)"""


NOTHING_ASKED = Types()


@dataclass(frozen=True, slots=True)
class Pair:
    """A Quantize/Dequantize pair behind a tensor; its scale comes from the observed range of `source`."""

    source: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class Plan:
    """What `apply` inserts into a net.

    `pairs`: by tensor. `recast`: inputs that need another type than their tensor's pair. `weights`: constant
    operands of MACs with their channel axis (None: one scale). `biases`: constants in the unit of the
    accumulator, with the MAC they belong to. `constants`: other constant operands, one scale each. `given`:
    what the model quantizes itself; `steps`: of sources that only move into a tensor that has a pair.
    `unrounded`: tensors inside of what is fused.
    `fed`: tensors with a pair that no BPU operator makes; the nodes `cpu` read them as they were before it.
    `floats`: nodes that were asked to stay float.
    """

    pairs: Mapping[str, Pair]
    recast: Mapping[Slot, DType]
    weights: Mapping[Slot, int | None]
    biases: Mapping[Slot, int]
    constants: Mapping[Slot, DType]
    given: Given
    steps: Mapping[str, Step]
    unrounded: frozenset[str]
    fed: frozenset[str]
    cpu: frozenset[int]
    floats: frozenset[int]

    @property
    def sources(self) -> tuple[str, ...]:
        """The tensors whose range must be known, in the order of the graph."""
        return tuple(dict.fromkeys(pair.source for pair in self.pairs.values()))

    @property
    def has_int16(self) -> bool:
        """Whether a tensor or a constant other than a weight is int16."""
        return DType.INT16 in (*(pair.dtype for pair in self.pairs.values()), *self.constants.values())

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to quantize."""
        return not (self.pairs or self.weights or self.constants)


@dataclass(frozen=True, slots=True)
class _Usual:
    """The types of tensors that no operator prescribes; `constants`: those that no input has a say in.

    `widened` are int16 whatever the others are.
    """

    activation: DType
    tail: DType
    results: frozenset[str]
    constants: frozenset[str]
    widened: frozenset[str]
    asked: Types

    @property
    def takes_int16(self) -> bool:
        """Whether int16 is for activations at all: without `--int8-tail`, or where it is asked for."""
        return DType.INT16 in {self.activation, self.tail} or self.asked.has_int16

    def of(self, name: str) -> DType:
        if name in self.widened:
            return DType.INT16
        return self.tail if name in self.results else self.activation


def make_plan(
    net: Net,
    activation: DType = DType.INT8,
    tail: DType = DType.INT8,
    spared: frozenset[str] = frozenset(),
    widened: frozenset[str] = frozenset(),
    types: Types = NOTHING_ASKED,
) -> Plan:
    """Return where pairs go in `net` for activations of int8 or int16; `tail` is for those of the tail.

    The results `spared` stay float although a BPU operator could make them; the tensors `widened` are int16,
    as is what leads to a grid of GridSample.
    `types` are those of single nodes and inputs, where others are asked for.
    """
    fixed = settled(net)
    kinds = [
        Kind.CPU
        if types.is_float(node) or fixed.issuperset(filter(None, node.output))
        else kind_of(node, net)
        for node in net.nodes
    ]
    given = find_given(net, fixed)
    fused = find_fused(net, kinds, fixed)
    units = find_units(net, kinds, fused)
    floats = frozenset(index for index, node in enumerate(net.nodes) if types.is_float(node))
    spared |= handed_over(net, kinds, floats)
    if types.outputs is DType.FLOAT32:
        spared |= float_ends(net, kinds)
    carriers = find_carriers(net, kinds, fused, units, given, spared)
    sources = scale_sources(net, kinds, carriers)
    widened |= find_grids(net, kinds)
    usual = _Usual(activation, tail, find_tail(net, kinds), frozenset(net.consts) | fixed, widened, types)
    of_units = _asked_of_units(net, units, types)
    slots = _input_types(net, kinds, units, of_units, sources, usual)
    steps = _steps(net, kinds, sources, given)
    handed = Handed(net, kinds, types, fused.unrounded, of_units, fixed)
    wanted = _source_types(net, kinds, sources, slots, usual, handed)
    wanted |= {name: step.dtype for name, step in steps.items()}
    pairs = {name: Pair(source, wanted[source]) for name, source in sources.items()}
    macs = [index for index, kind in enumerate(kinds) if kind is Kind.MAC]
    return Plan(
        pairs=pairs,
        recast=_recast(net, pairs, slots),
        weights=_weights(net, macs),
        biases=_biases(net, macs, fused),
        constants={slot: slots[slot] for slot in _constants(net, kinds, fused, units)},
        given=given,
        steps=steps,
        unrounded=fused.unrounded,
        fed=fed_to_bpu(net, kinds, carriers),
        cpu=frozenset(_on_cpu(net, kinds, pairs)) - units.root.keys(),
        floats=floats,
    )


def _on_cpu(net: Net, kinds: Sequence[Kind], pairs: Mapping[str, Pair]) -> Iterator[int]:
    """Yield the nodes that read what was made, not what was rounded: CPU operators and movement to them."""
    for index, node in enumerate(net.nodes):
        if kinds[index] is Kind.CPU or (kinds[index] is Kind.KEEP and pairs.keys().isdisjoint(node.output)):
            yield index


def _steps(net: Net, kinds: Sequence[Kind], sources: Mapping[str, str], given: Given) -> dict[str, Step]:
    """Return the steps of sources that nothing but movement reads, into a tensor with a symmetric pair.

    Movement has one step: another one in front would round twice.
    """
    readers, steps = net.consumers(), dict[str, Step]()
    for node, kind in zip(reversed(net.nodes), reversed(kinds), strict=True):
        if kind is not Kind.KEEP or len(node.output) != 1 or node.output[0] in net.outputs:
            continue
        source, step = node.input[0], given.rounded.get(node.output[0], steps.get(node.output[0]))
        if step is not None and len(readers[source]) == 1 and source not in net.outputs:
            steps[source] = step
    return {name: step for name, step in steps.items() if sources.get(name) == name}


def _input_types(
    net: Net,
    kinds: Sequence[Kind],
    units: Units,
    of_units: Mapping[int, DType],
    sources: Mapping[str, str],
    usual: _Usual,
) -> dict[Slot, DType]:
    """Return the type that every tensor input of a BPU operator takes; movement and units take any.

    Constants have the type of the results they are used for.
    """
    types: dict[Slot, DType] = {}
    for index, node in enumerate(net.nodes):
        if kinds[index] in {Kind.CPU, Kind.KEEP}:
            continue
        fixed = TABLE[node.op_type].types if index not in units.root else {}
        data = set(data_inputs(node))
        for position, name in enumerate(node.input):
            if name in data:
                model = node.output[0] if name in usual.constants else sources.get(name, name)
                asked = of_units.get(index) or usual.asked.of(node, position) or usual.of(model)
                types[index, position] = fixed.get(position, asked)
    return types


def _asked_of_units(net: Net, units: Units, asked: Types) -> dict[int, DType]:
    """Return by node the widest type that one of its unit is asked to read: a unit reads one tensor once."""
    made = {net.nodes[index].output[0]: index for index in units.root}
    unit = {index: {index} for index in units.root}
    for index in units.root:
        inner = [made[name] for name in net.nodes[index].input if name in made and name not in units.results]
        for other in inner:
            unit[index] |= unit[other]
            unit.update(dict.fromkeys(unit[index], unit[index]))
    wishes = {
        index: [
            dtype
            for member in members
            for position in range(len(net.nodes[member].input))
            if (dtype := asked.of(net.nodes[member], position)) is not None
        ]
        for index, members in unit.items()
    }
    return {index: max(wish, key=lambda d: d.nbytes) for index, wish in wishes.items() if wish}


def _source_types(
    net: Net,
    kinds: Sequence[Kind],
    sources: Mapping[str, str],
    types: Mapping[Slot, DType],
    usual: _Usual,
    handed: Handed,
) -> dict[str, DType]:
    """Return the type of every source: the widest that a reader of it, or of what is moved from it, takes.

    Movement takes any, unless it is asked to take one. Float nodes take what they are `handed`.
    """
    asked: dict[str, set[DType]] = {source: set() for source in sources.values()}
    for (index, position), dtype in types.items():
        name = net.nodes[index].input[position]
        if name in sources:
            asked[sources[name]].add(dtype)
    for node, kind in zip(net.nodes, kinds, strict=True):
        moved = usual.asked.of(node, 0) if kind is Kind.KEEP else None
        if moved is not None and node.input[0] in sources:
            asked[sources[node.input[0]]].add(moved)
    makers = net.producers()
    for name in net.outputs:
        if name in sources:
            maker = makers.get(sources[name])
            by_maker = None if maker is None else usual.asked.of_node(net.nodes[maker])
            asked[sources[name]].add(usual.asked.output or by_maker or usual.of(sources[name]))
    for name in list(handed.wants_int16(sources, asked, is_taken=usual.takes_int16)):
        asked[name].add(DType.INT16)
    return {
        source: max(kinds or {usual.of(source)}, key=lambda d: d.nbytes) for source, kinds in asked.items()
    }


def _recast(net: Net, pairs: Mapping[str, Pair], types: Mapping[Slot, DType]) -> dict[Slot, DType]:
    """Return the inputs that take a smaller type than their tensor has."""
    recast: dict[Slot, DType] = {}
    for (index, position), dtype in types.items():
        pair = pairs.get(net.nodes[index].input[position])
        if pair is not None and pair.dtype is not dtype:
            recast[index, position] = dtype
    return recast


def _weights(net: Net, macs: Sequence[int]) -> dict[Slot, int | None]:
    weights: dict[Slot, int | None] = {}
    for index in macs:
        for position in (0, 1):
            if net.nodes[index].input[position] in net.consts:
                rank = net.consts[net.nodes[index].input[position]].ndim
                weights[index, position] = channel_axis(net.nodes[index], rank) if position else None
    return weights


def channel_axis(node: NodeProto, rank: int) -> int | None:
    """Return the axis of the output channels in the weights of a MAC; None: one scale."""
    if rank < 2:
        return None
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    if node.op_type == "MatMul":  # a matrix per sample has one: so the BPU and ONNX Runtime want it
        return 1 if rank == 2 else None
    return {"Conv": 0, "ConvTranspose": 1}[node.op_type]


def _biases(net: Net, macs: Sequence[int], fused: Fused) -> dict[Slot, int]:
    biases: dict[Slot, int] = {}
    for index in macs:
        node = net.nodes[index]
        if len(node.input) > 2 and node.input[2] in net.consts:
            biases[index, 2] = index
    for add, mac in fused.biases.items():
        biases[add, 0 if net.nodes[add].input[0] in net.consts else 1] = mac
    return biases


def _constants(net: Net, kinds: Sequence[Kind], fused: Fused, units: Units) -> frozenset[Slot]:
    """Return the constant tensors among the operands of operators that quantize all of them.

    What a tensor is compared with stays the number that it is: its place among the codes is exact.
    """
    slots: set[Slot] = set()
    for index, node in enumerate(net.nodes):
        own = kinds[index] in {Kind.ELEMENTWISE, Kind.QUANTIZED} and index not in units.root
        if not own or node.op_type in DECISIONS or index in fused.biases:
            continue
        data = set(data_inputs(node))
        both = [p for p, name in enumerate(node.input) if name in data and name in net.consts]
        slots.update((index, p) for p in both if net.is_float(node.input[p]))
    return frozenset(slots)
