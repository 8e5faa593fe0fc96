"""Values that shapes alone decide: which are known now, and which will be once the inputs have their sizes.

x: [N, 3, H, W]   Shape(x) → Gather(1)                        known now: 3
                  Shape(x) → Gather(2) → Range → Cast → Add   settled: a constant as soon as H is
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from onnx import NodeProto

from openbpu.arch.arrays import Array
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.nodes import attribute, reads

_ONNX = ("", "ai.onnx")

NEVER_CONSTANT = ("Random", "Bernoulli", "Multinomial", "Sequence", "Optional")
"""Parts of the names of operators that draw numbers or make something that is no tensor."""

_SHAPED_BY_DATA = ("NonZero", "NonMaxSuppression", "Unique", "Compress", "If", "Loop", "Scan")
"""Operators whose results have a shape that depends on values."""

_SHAPE_OPERANDS = {
    "ConstantOfShape": (0,), "Expand": (1,), "OneHot": (1,), "Pad": (1,), "Range": (0, 1, 2), "Reshape": (1,),
    "Resize": (2, 3), "Slice": (1, 2, 3, 4), "Split": (1,), "Tile": (1,), "TopK": (1,), "Upsample": (1,),
}  # fmt: skip
"""Inputs whose values are the shape of the result."""


def known_sizes(net: Net) -> dict[str, Array]:
    """Return the values of Shape and Size nodes, and of what picks from a shape, where known."""
    found: dict[str, Array] = {}
    partial: dict[str, list[int | None]] = {}
    for node in net.nodes:
        if node.domain not in _ONNX or node.output[0] in net.outputs:
            continue
        sizes = _sizes(node, net, partial)
        if sizes is None:
            continue
        if all(size is not None for size in sizes):
            found[node.output[0]] = _as_made(node, cast("list[int]", sizes), net)
        elif node.op_type in {"Shape", "Slice"}:
            partial[node.output[0]] = sizes
    return found


def _sizes(node: NodeProto, net: Net, partial: dict[str, list[int | None]]) -> list[int | None] | None:
    """Return the sizes that a node makes, None for an unknown one; None when it makes something else."""
    if node.op_type in {"Shape", "Size"}:
        shape = net.shapes.get(node.input[0])
        if shape is None:
            return None
        sizes = [d if isinstance(d, int) else None for d in shape]
        return sizes if node.op_type == "Size" else sizes[_limits(node, len(sizes))]
    if node.op_type not in {"Gather", "Slice"} or node.input[0] not in partial:
        return None
    if any(name not in net.consts for name in node.input[1:] if name):
        return None
    operands = [net.consts[name].reshape(-1).tolist() if name else [] for name in node.input[1:]]
    sizes = partial[node.input[0]]
    return _gathered(sizes, operands[0]) if node.op_type == "Gather" else _sliced(node, sizes, operands)


def _limits(node: NodeProto, rank: int) -> slice:
    return slice(attribute(node, "start", 0), attribute(node, "end", rank))


def _gathered(sizes: list[int | None], at: Sequence[int]) -> list[int | None] | None:
    return [sizes[i] for i in at] if all(-len(sizes) <= i < len(sizes) for i in at) else None


def _sliced(
    node: NodeProto, sizes: list[int | None], operands: Sequence[Sequence[int]]
) -> list[int | None] | None:
    """Return a part of a shape; operands: starts, ends, axes, steps (attributes up to opset 9)."""
    starts, ends = operands[:2] if operands else (attribute(node, name, []) for name in ("starts", "ends"))
    steps = operands[3] if len(operands) > 3 else []
    return sizes[starts[0] : ends[0]] if len(starts) == len(ends) == 1 and set(steps) <= {1} else None


def _as_made(node: NodeProto, sizes: list[int], net: Net) -> Array:
    """Return the sizes in the shape that the node gives them."""
    if node.op_type == "Size":
        return np.asarray(np.prod(sizes, dtype=np.int64), dtype=np.int64)
    made = np.asarray(sizes, dtype=np.int64)
    return made.reshape(net.consts[node.input[1]].shape) if node.op_type == "Gather" else made


def settled(net: Net) -> frozenset[str]:
    """Return the computed tensors that are constants as soon as the inputs have their sizes."""
    known, fluid = set(net.consts), set[str]()
    for node in net.nodes:
        is_shape = node.op_type in {"Shape", "Size"} and node.domain in _ONNX
        if fluid.isdisjoint(reads(node)) if is_shape else _is_constant(node, known):
            known.update(name for name in node.output if name)
        elif _is_fluid(node, known) or not fluid.isdisjoint(reads(node)):
            fluid.update(name for name in node.output if name)
    return frozenset(known - set(net.consts))


def _is_constant(node: NodeProto, known: set[str]) -> bool:
    drawn = any(part in node.op_type for part in NEVER_CONSTANT)
    return not drawn and known.issuperset(reads(node))


def _is_fluid(node: NodeProto, known: set[str]) -> bool:
    """Whether the shape of what a node makes depends on values that are not settled."""
    if node.domain not in _ONNX:
        return False
    operands = _SHAPE_OPERANDS.get(node.op_type, ())
    named = [node.input[i] for i in operands if i < len(node.input) and node.input[i]]
    return node.op_type in _SHAPED_BY_DATA or any(name not in known for name in named)
