"""From a `quant_config` to the types of a net's nodes.

The stronger layer wins: model, operators, subgraphs, nodes, nodes of the command line; in a layer of nodes a
name wins over a pattern.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError, QuantizationError, must
from openbpu.arch.onnx_ops import PRODUCTS
from openbpu.quantization.onnx.asked import Types, key
from openbpu.quantization.onnx.classes import TABLE, data_inputs
from openbpu.quantization.onnx.config.names import Directory, directory, is_pattern
from openbpu.quantization.onnx.config.places import Places, find_places, operators
from openbpu.quantization.onnx.config.schema import OfNode, QuantConfig
from openbpu.quantization.onnx.config.subgraphs import nodes_between
from openbpu.quantization.onnx.config.unknown import refuse_unknown
from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.nodes import name_of
from openbpu.quantization.onnx.scaled import part_of


@dataclass(frozen=True, slots=True)
class Resolved:
    """The types for a net, and what is to be told about names that mean another node than they did."""

    types: Types
    findings: tuple[Finding, ...]


def resolve(config: QuantConfig, every: Sequence[NodeProto], model: Net, net: Net) -> Resolved:
    """Return what `config` asks for of `net`, which `model` became; `every` node of it as the user wrote it.

    Raises InputError for names that are not in the model, QuantizationError for a type that an input cannot
    have.
    """
    names = directory(every, model)
    refuse_unknown(config, model, names)
    found = _Resolver(model, net, find_places(model, net), names)
    if config.model.all_node_type is DType.FLOAT32:
        found.nodes = {key(node): DType.FLOAT32 for node in net.nodes}
    found.add_ops(config)
    found.add_subgraphs(config)
    found.add_nodes("node_config", config.nodes)
    found.add_nodes("the command line", config.options)
    return Resolved(Types(found.nodes, found.inputs, config.model.model_output_type), tuple(found.findings))


class _Resolver:
    """Collects types layer by layer, the weakest first."""

    def __init__(self, model: Net, net: Net, places: Places, names: Directory) -> None:
        self.model, self.net, self.places, self.names = model, net, places, names
        self.nodes: dict[str, DType] = {}
        self.inputs: dict[tuple[str, int], DType] = {}
        self.findings: list[Finding] = []

    def add_ops(self, config: QuantConfig) -> None:
        kinds = [operators(i, self.places, self.model, self.net) for i in range(len(self.net.nodes))]
        for op, wanted in config.ops.items():
            matches = [i for i, known in enumerate(kinds) if op in known]
            if not matches:
                self._say(f"the model has no {op} to quantize: op_config.{op} changes nothing", "")
            for index in matches:  # what the user wrote wins over what became of it
                if len(kinds[index] & config.ops.keys()) == 1 or op != self.net.nodes[index].op_type:
                    self.nodes[key(self.net.nodes[index])] = wanted.qtype

    def add_subgraphs(self, config: QuantConfig) -> None:
        owner: dict[int, str] = {}
        for name, part in config.subgraphs.items():
            where = f"subgraph_config.{name}"
            for index in nodes_between(part.inputs, part.outputs, self.model, self.names, where):
                other = owner.setdefault(index, name)
                if config.subgraphs[other].qtype is not part.qtype:
                    node = self.model.nodes[index]
                    types = f"{config.subgraphs[other].qtype.value} as '{other}' has it"
                    raise InputError(
                        must(where, f"the type of node '{name_of(node)}'", types, part.qtype.value)
                    )
                self._set(index, OfNode(qtype=part.qtype), where)

    def add_nodes(self, layer: str, wanted: Mapping[str, OfNode]) -> None:
        """Add types of nodes by name or pattern; two patterns that want different types are refused."""
        by_pattern: dict[int, str] = {}
        exact = [name for name in wanted if name in self.names.nodes or not is_pattern(name)]
        taken = {index for name in exact for index in self.names.find(name)}
        for pattern in [name for name in wanted if name not in exact]:
            for index in self.names.find(pattern):
                other = by_pattern.setdefault(index, pattern)
                if wanted[other] != wanted[pattern] and index not in taken:
                    node = name_of(self.model.nodes[index])
                    found = f"that of '{other}' and another of '{pattern}'"
                    raise InputError(must(layer, f"the type of node '{node}'", "one", found))
                if index not in taken:
                    self._set(index, wanted[pattern], f"{layer}.{pattern}")
        for name in exact:
            indices = self.names.find(name)
            if not indices:
                self._say(f"node '{name}' is computed or left out beforehand: it has no type", name)
            for index in indices:
                self._set(index, wanted[name], f"{layer}.{name}", named=True)

    def _set(self, index: int, wanted: OfNode, where: str, *, named: bool = False) -> None:
        """Give a node of the model its types, where it is in the net."""
        origin, made = self.model.nodes[index], [self.net.nodes[i] for i in self.places.made[index]]
        whole = part_of(origin)
        if wanted.inputs and whole and len(self.names.nodes[whole]) > 1:
            found, fix = f"left out: '{whole}' is taken apart into several nodes", "give it a qtype"
            raise QuantizationError(must(where, f"input{min(wanted.inputs)}", found, "given", fix))
        own = {origin.name, whole}
        if named and made and all((n.name or "") not in own for n in made) and origin.name and not whole:
            others = " and ".join(f"'{n.name}' ({n.op_type})" for n in made[:3])
            self._say(f"node '{origin.name}' is part of {others} now, which gets its type", made[0].name)
        for node in made:
            self.inputs = {slot: kind for slot, kind in self.inputs.items() if slot[0] != key(node)}
            if wanted.qtype is not None:
                self.nodes[key(node)] = wanted.qtype
            for position, dtype in wanted.inputs.items():
                _check_input(origin, node, position, dtype, self.net, where)
                self.inputs[key(node), position] = dtype

    def _say(self, text: str, node: str) -> None:
        self.findings.append(Finding("type", "", node, text))


def _check_input(
    origin: NodeProto, node: NodeProto, position: int, dtype: DType, net: Net, where: str
) -> None:
    """Refuse what an input of `node`, which `origin` became, cannot be."""
    what, op = f"input{position}", node.op_type
    if op != origin.op_type and not {op, origin.op_type} <= PRODUCTS:
        fix = "give the whole node a type"
        raise QuantizationError(
            must(where, what, f"left out: the node is part of '{node.name}' ({op})", dtype.value, fix)
        )
    data = set(data_inputs(node))
    places = [i for i, name in enumerate(node.input) if name in data and net.is_float(name)]
    if position not in places:
        allowed = ", ".join(f"input{i}" for i in places) or "left out: it has no inputs of tensors"
        raise QuantizationError(
            must(where, "the key", allowed, what, "other inputs have no type of their own")
        )
    if dtype is DType.FLOAT32:
        fix = f"{{qtype: float}} leaves the node '{node.name}' to the CPU as a whole"
        raise QuantizationError(must(where, what, "int8 or int16", "float", fix))
    only = TABLE[op].types.get(position) if op in TABLE else None
    if op in PRODUCTS and node.input[0] in net.consts:
        only = DType.INT8 if position == 0 else None  # the constant is the int8 side
    if only is not None and dtype is not only:
        raise QuantizationError(must(where, what, f"{only.value} for {op} on the BPU", dtype.value))
