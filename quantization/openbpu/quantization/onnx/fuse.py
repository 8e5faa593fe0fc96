"""What runs without rounding in between: a convolution with what is fused behind it, and element-wise units.

    Conv → Relu       Conv → Add(other) → Relu       MatMul → Add(bias) → Clip       no pair inside: fused
    Add → Relu
    x → Sigmoid ┐          x → Div(√2) → Erf → Add(1) → Mul ┐
    x ──────────┴ Mul      x ───────────────────────────────┴ Mul → Mul(½)           no pair inside: a unit
    x → Greater(20) ┬ Where(x, log(1 + eˣ))                                          no pair inside: a unit

A unit is a function of one tensor, so the BPU computes it with one table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from onnx import NodeProto

from openbpu.arch.numerics.functions import CASTS, CONDITIONS, JOINS
from openbpu.quantization.onnx.affine import channel_vector
from openbpu.quantization.onnx.classes import Kind, data_inputs
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.nodes import attribute


@dataclass(frozen=True, slots=True)
class Fused:
    """`nodes` (indices) run in one step with what is in front of them; `unrounded` are the tensors between.

    `biases` maps an Add to the MatMul whose bias it adds.
    """

    nodes: frozenset[int]
    unrounded: frozenset[str]
    biases: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Units:
    """`root` maps a node of a unit to the tensor it is a function of; units end in `results`."""

    root: Mapping[int, str]
    results: frozenset[str]


def find_fused(net: Net, kinds: Sequence[Kind], fixed: AbstractSet[str] = frozenset()) -> Fused:
    """Return what is fused; of two convolutions that meet in an Add, the later one takes it.

    A Relu or Clip is also fused with an Add, Sub or Mul of two tensors that no convolution takes. `fixed`:
    computed constants.
    """
    readers = net.consumers()
    nodes: set[int] = set()
    unrounded: set[str] = set()
    biases: dict[int, int] = {}

    def extend(tensor: str, to: int) -> str:
        nodes.add(to)
        unrounded.add(tensor)
        return str(net.nodes[to].output[0])

    def next_of(tensor: str) -> int | None:
        match readers.get(tensor, []):
            case [user] if tensor not in net.outputs and user not in nodes and kinds[user] is not Kind.CPU:
                return user
        return None

    for index in reversed(range(len(net.nodes))):
        if kinds[index] is not Kind.MAC and not _is_sum(net, kinds, index):
            continue
        out = net.nodes[index].output[0]
        follower = next_of(out)
        if follower is not None and _is_bias_add(net, index, follower, fixed):
            if fixed.isdisjoint(net.nodes[follower].input):  # else it is stored as codes
                biases[follower] = index
            out = extend(out, follower)
        elif follower is not None and _is_residual_add(net, index, follower, fixed):
            out = extend(out, follower)
        follower = next_of(out)
        if follower is not None and _is_clamp(net.nodes[follower], net):
            extend(out, follower)
    return Fused(frozenset(nodes), frozenset(unrounded), biases)


def _is_sum(net: Net, kinds: Sequence[Kind], index: int) -> bool:
    """Whether the node combines two computed tensors, element by element, and can clamp its own result."""
    node = net.nodes[index]
    two = len(node.input) == 2 and all(net.is_live(name) for name in node.input)
    return kinds[index] is Kind.ELEMENTWISE and node.op_type in {"Add", "Sub", "Mul"} and two


def _is_bias_add(net: Net, mac: int, add: int, fixed: AbstractSet[str]) -> bool:
    """Whether an Add gives every column of a MatMul of constant weights a constant."""
    node, product = net.nodes[add], net.nodes[mac]
    weight, shape = product.input[1], net.shapes.get(product.output[0])
    known = net.shapes.get(weight) if weight in net.consts or weight in fixed else None
    bias = [name for name in node.input if name in net.consts or name in fixed]
    if product.op_type != "MatMul" or node.op_type != "Add" or len(bias) != 1 or not shape:
        return False
    columns = known[-1] if known else None
    return isinstance(columns, int) and _is_per_column(net, bias[0], len(shape), columns)


def _is_per_column(net: Net, bias: str, rank: int, columns: int) -> bool:
    if bias in net.consts:
        return channel_vector(net.consts[bias], rank, rank - 1, columns) is not None
    *others, last = net.shapes.get(bias) or (None,)
    return len(others) < rank and all(size == 1 for size in others) and last in {1, columns}


def _is_residual_add(net: Net, mac: int, add: int, fixed: AbstractSet[str]) -> bool:
    """The other operand must be computed, and neither may be broadcast."""
    node, out = net.nodes[add], net.nodes[mac].output[0]
    if net.nodes[mac].op_type != "Conv" or node.op_type != "Add":
        return False
    other = node.input[1] if node.input[0] == out else node.input[0]
    shape = net.shapes.get(out)
    known = shape is not None and None not in shape
    return net.is_live(other) and other not in fixed and known and net.shapes.get(other) == shape


def _is_clamp(node: NodeProto, net: Net) -> bool:
    if node.op_type == "Relu":
        return True
    return node.op_type == "Clip" and all(not name or name in net.consts for name in node.input[1:])


def find_units(net: Net, kinds: Sequence[Kind], fused: Fused) -> Units:
    """Return the units, as large as possible: a tensor that is also read from outside starts a new one."""
    barriers: set[str] = set()
    makers = net.producers()
    in_tables = (_chooses(net, node, makers) for node in net.nodes)
    kinds = [Kind.ELEMENTWISE if is_in else kind for is_in, kind in zip(in_tables, kinds, strict=True)]
    while True:
        units, broken = _grow(net, kinds, fused, barriers)
        if not broken:
            return units
        barriers |= broken


def _grow(net: Net, kinds: Sequence[Kind], fused: Fused, barriers: set[str]) -> tuple[Units, set[str]]:
    """Return the units between `barriers`, and the tensors that are read both inside and outside of one."""
    root: dict[int, str] = {}
    source: dict[str, str] = {}
    for index, node in enumerate(net.nodes):
        if kinds[index] is not Kind.ELEMENTWISE or index in fused.nodes:
            continue
        start = _single_source(node, net, source)
        made_mask = not net.is_live(node.output[0])
        if start is None or (made_mask and node.output[0] in barriers):
            continue  # a condition that others read too is none of a table
        root[index] = start
        if node.output[0] not in barriers:
            source[node.output[0]] = start
    readers = net.consumers()
    results, broken = set[str](), set[str]()
    for index, start in root.items():
        name = net.nodes[index].output[0]
        inside = [user for user in readers.get(name, []) if name in source and root.get(user) == start]
        if len(inside) == len(readers.get(name, [])) and inside and name not in net.outputs:
            continue
        results.add(name)
        if inside or not net.is_live(name):
            broken.add(name)
    return Units(root, frozenset(results)), broken


def _chooses(net: Net, node: NodeProto, makers: Mapping[str, int]) -> bool:
    """Whether a node compares, joins, casts or chooses as a table can: a choice by comparisons."""
    if node.domain not in {"", "ai.onnx"}:
        return False
    if node.op_type == "Where":
        return _is_compared(net, node.input[0], makers)
    casts = node.op_type == "Cast" and attribute(node, "to", 0) in CASTS
    return casts or node.op_type in CONDITIONS | JOINS


def _is_compared(net: Net, name: str, makers: Mapping[str, int]) -> bool:
    """Whether a condition is a comparison, or several that are joined or negated."""
    node = net.nodes[makers[name]] if name in makers else None
    if node is None or node.domain not in {"", "ai.onnx"}:
        return False
    joined = node.op_type in JOINS and all(_is_compared(net, part, makers) for part in node.input)
    return joined or node.op_type in CONDITIONS


def _single_source(node: NodeProto, net: Net, source: Mapping[str, str]) -> str | None:
    """Return the one tensor `node` is a function of when all else is constant scalars; else None."""
    names = [*node.input] if node.op_type == "Where" else data_inputs(node)
    if any(name in net.consts and net.consts[name].size != 1 for name in node.input):
        return None
    if any(name not in net.consts for name in node.input if name and name not in names):
        return None  # a limit that is computed
    live = [name for name in names if name not in net.consts]
    starts = {source.get(name, name) for name in live}
    known = all(net.is_live(name) or name in source for name in live)
    return starts.pop() if len(starts) == 1 and known else None
