"""Constant folding: what does not depend on the inputs is computed once.

Shape(x: [1, 3, H, W]) → Gather → Mul → Concat → Reshape.shape      becomes   Reshape.shape = [1, 12, 40]
ConstantOfShape → Conv.weight, Identity(weight) → Conv.weight       becomes   Conv.weight
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from openbpu.arch.arrays import Array
from openbpu.arch.errors import ModelError, must
from openbpu.quantization.onnx.engine import float_shapes, run_once
from openbpu.quantization.onnx.inference import infer, nbytes
from openbpu.quantization.onnx.net import Net, assemble, value_info
from openbpu.quantization.onnx.nodes import attribute, reads, rename_reads, subgraphs
from openbpu.quantization.onnx.sizes import NEVER_CONSTANT, known_sizes

MAX_BYTES = 1 << 32


def fold_constants(net: Net) -> Net:
    """Return `net` with types and shapes inferred and all constant computations done."""
    net = ask_engine(infer(_drop_identities(_run_constants(net))))
    while True:
        shapes = known_sizes(net)
        if not shapes:
            return _drop_identities(net)
        nodes = [node for node in net.nodes if node.output[0] not in shapes]
        net = infer(_run_constants(net.with_nodes(nodes, shapes)))


def ask_engine(net: Net) -> Net:
    """Return `net` with the types behind operators that ONNX has no inference for (com.microsoft, …)."""
    known = {*net.types, *net.consts}
    unknown = [name for node in net.nodes for name in node.output if name and name not in known]
    found = float_shapes(assemble(net, skeleton=True), unknown) if unknown else {}
    if not found:
        return net
    header = ModelProto()
    header.CopyFrom(net.header)
    declared = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in found.items())
    header.graph.value_info.extend(declared)
    return infer(replace(net, header=header))


def _run_constants(net: Net) -> Net:
    """Compute every node that reads constants only; what a graph output names stays a node."""
    known = set(net.consts)
    constant: list[NodeProto] = []
    left: list[NodeProto] = []
    for node in net.nodes:
        if _is_foldable(node) and known.issuperset(reads(node)) and not set(node.output) & set(net.outputs):
            constant.append(node)
            known.update(node.output)
        else:
            left.append(node)
    if not constant:
        return net
    made = {name for node in constant for name in node.output if name}
    wanted = [name for name in dict.fromkeys(n for node in left for n in reads(node)) if name in made]
    return net.with_nodes(left, _evaluate(net, constant, wanted))


def _is_foldable(node: NodeProto) -> bool:
    """Whether a node is computed where its inputs are known; codes stay codes."""
    never = (*NEVER_CONSTANT, "DequantizeLinear")
    return not any(part in node.op_type for part in never) and not any(subgraphs(node))


def _evaluate(net: Net, nodes: list[NodeProto], wanted: list[str]) -> dict[str, Array]:
    """Return the values of `wanted`, computed by `nodes` from constants."""
    values: dict[str, Array] = {}
    hard: list[NodeProto] = []
    for node in nodes:  # Identity, which shares weights in many exports, needs no engine and no copy
        source = node.input[0] if node.op_type == "Identity" else ""
        array = values.get(source, net.consts.get(source))
        if array is None:
            hard.append(node)
        else:
            values[node.output[0]] = array
    missing = [name for name in wanted if name not in values]
    if missing:
        values.update(_run(net, hard, values, missing))
    return {name: values[name] for name in wanted}


def _run(net: Net, nodes: list[NodeProto], values: dict[str, Array], wanted: list[str]) -> dict[str, Array]:
    """Return the values of `wanted`; no node runs before the size of what it makes is known and looked at.

    Where a shape is computed, what comes before it runs first.
    """
    given = {**net.consts, **values}
    last = {name: index for index, node in enumerate(nodes) for name in reads(node)}
    last.update(dict.fromkeys(wanted, len(nodes)))
    sizes = _Sizes(net, nodes, given)
    part: list[NodeProto] = []
    for index, node in enumerate(nodes):
        if part and not sizes.are_known(node):
            given.update(_run_part(net, part, given, [n for n in _made(part) if last.get(n, -1) >= index]))
            part = []
        if not sizes.are_known(node):
            sizes.look_at(node, given)
        sizes.count(node)
        part.append(node)
    given.update(_run_part(net, part, given, [n for n in _made(part) if n in last]))
    return {name: given[name] for name in wanted}


def _made(nodes: Iterable[NodeProto]) -> list[str]:
    return [name for node in nodes for name in node.output if name]


def _run_part(
    net: Net, nodes: Sequence[NodeProto], given: Mapping[str, Array], wanted: list[str]
) -> dict[str, Array]:
    if not wanted:
        return {}
    used = [name for name in dict.fromkeys(n for node in nodes for n in reads(node)) if name in given]
    model = assemble(_constant_part(net, nodes, {}))
    model.graph.input.extend(value_info(name, given[name]) for name in used)
    model.graph.output.extend(ValueInfoProto(name=name) for name in wanted)
    return run_once(model, {name: given[name] for name in used}, wanted)


def _constant_part(net: Net, nodes: Sequence[NodeProto], given: Mapping[str, Array]) -> Net:
    """Return nodes that need no input as a net without outputs; `given`: the constants that it shall have."""
    header = ModelProto()
    header.CopyFrom(net.header)
    del header.graph.input[:], header.graph.output[:], header.graph.value_info[:]
    return Net(header, tuple(nodes), {n: given[n] for node in nodes for n in reads(node) if n in given})


class _Sizes:
    """What constants are made into, in bytes: a small file can describe any number of them."""

    def __init__(self, net: Net, nodes: Sequence[NodeProto], given: Mapping[str, Array]) -> None:
        self._net, self._left = net, MAX_BYTES
        self._known = infer(_constant_part(net, nodes, given))

    def are_known(self, node: NodeProto) -> bool:
        """Whether the shape of everything that a node makes is known."""
        shapes = (self._known.shapes.get(name) for name in node.output if name)
        return all(shape is not None and all(isinstance(d, int) for d in shape) for shape in shapes)

    def look_at(self, node: NodeProto, given: Mapping[str, Array]) -> None:
        """Infer what a node makes of values that are known by now."""
        found = infer(_constant_part(self._net, [node], given))
        known = self._known
        types, shapes = {**known.types, **found.types}, {**known.shapes, **found.shapes}
        self._known = replace(known, types=types, shapes=shapes)

    def count(self, node: NodeProto) -> None:
        """Take what a node makes off the budget; raises ModelError where nothing is left of it."""
        known = self._known
        self._left -= sum(nbytes(known.types.get(n, 0), known.shapes.get(n, ())) for n in node.output if n)
        if self._left < 0:
            where = f"model '{self._net.header.graph.name}'"
            what = f"what constants alone are made into, up to '{node.output[0]}',"
            found, fix = f"{MAX_BYTES - self._left:,} bytes or more", "store it as a weight"
            raise ModelError(must(where, what, "at most 4 GiB", found, fix))


def _drop_identities(net: Net) -> Net:
    """Remove Identity, inference Dropout and Casts that change nothing, but for what makes a graph output."""
    alias: dict[str, str] = {}
    kept: list[NodeProto] = []
    read = {*net.consumers(), *net.outputs}
    for node in net.nodes:
        renamed = rename_reads(node, alias)
        if _is_identity(node, net, read) and node.output[0] not in net.outputs:
            alias[node.output[0]] = renamed.input[0]
        else:
            kept.append(renamed)
    return net.with_nodes(kept)


def _is_identity(node: NodeProto, net: Net, read: set[str]) -> bool:
    if node.op_type == "Identity":
        return True
    if node.op_type == "Cast" and node.domain in {"", "ai.onnx"}:
        known = net.types.get(node.input[0])
        return known is not None and known == attribute(node, "to", 0)
    if node.op_type != "Dropout" or read.intersection(node.output[1:]):
        return False
    mode = node.input[2] if len(node.input) > 2 else ""
    return not mode or (mode in net.consts and not net.consts[mode].any())
