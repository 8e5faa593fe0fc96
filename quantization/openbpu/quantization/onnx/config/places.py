"""Where the nodes of the user's model are in the net that is quantized, which folds, fuses and splits them.

    the model:   Conv ─► BatchNormalization ─► Relu     Sub ─► Pow ─► ReduceMean ─► … ─► Add
    the net:     Conv ───────────────────────► Relu     LayerNormalization ────────────►

Both have the tensors at the ends of what was folded or fused. A node of the model is where the next such
tensor behind it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto

from openbpu.arch.onnx_ops import PRODUCTS
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.nodes import reads


@dataclass(frozen=True, slots=True)
class Places:
    """`made`: by index of a node of the model, the indices of those of the net. `origins`: the other way."""

    made: Mapping[int, tuple[int, ...]]
    origins: Mapping[int, tuple[int, ...]]


def find_places(model: Net, net: Net) -> Places:
    """Return where the nodes of `model` are in `net`, which was made of it."""
    common = _outputs(model.nodes) & _outputs(net.nodes)
    regions: dict[str, list[int]] = {}
    for index, ends in enumerate(_ends(net.nodes, common)):
        for name in ends:
            regions.setdefault(name, []).append(index)
    made, origins = dict[int, tuple[int, ...]](), dict[int, tuple[int, ...]]()
    for index, ends in enumerate(_ends(model.nodes, common)):
        found = list(dict.fromkeys(i for name in ends for i in regions.get(name, [])))
        made[index] = _same(model.nodes[index], found, net) or tuple(found)
        for place in found:
            origins[place] = (*origins.get(place, ()), index)
    return Places(made, origins)


def operators(index: int, places: Places, model: Net, net: Net) -> frozenset[str]:
    """Return the operators that a node of the net is: its own, and what the model had in its place.

    MatMul with a bias has become Gemm, a Sum several Adds; but a LayerNormalization is none of its steps.
    """
    op, origins = net.nodes[index].op_type, [model.nodes[i].op_type for i in places.origins.get(index, ())]
    alone = set(origins) if len(origins) == 1 else set()
    products = set(origins) & PRODUCTS if op in PRODUCTS else set()
    return frozenset({op} | alone | products)


def _same(node: NodeProto, found: Sequence[int], net: Net) -> tuple[int, ...]:
    """Return the one of its name and operator among those found."""
    return tuple(
        i
        for i in found
        if node.name and (net.nodes[i].name, net.nodes[i].op_type) == (node.name, node.op_type)
    )


def _outputs(nodes: Iterable[NodeProto]) -> set[str]:
    return {name for node in nodes for name in node.output if name}


def _ends(nodes: Sequence[NodeProto], common: set[str]) -> list[frozenset[str]]:
    """Return for every node the tensors of `common` that it makes, or else that are made of what it makes."""
    behind: dict[str, set[str]] = {}
    found: list[frozenset[str]] = []
    for node in reversed(nodes):
        ends: set[str] = set()
        for name in filter(None, node.output):
            ends |= {name} if name in common else behind.get(name, set())
        found.append(frozenset(ends))
        for name in reads(node):
            behind.setdefault(name, set()).update(ends)
    return found[::-1]
