"""How each ONNX operator takes part in quantization: a row per operator, made of its row in arch.onnx_ops.

An operator without a row is left alone, as a row of kind CPU is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from onnx import NodeProto

from openbpu.arch.dtypes import DType
from openbpu.arch.onnx_ops import ONNX_OPS, PRODUCTS, Does, only_moves
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.nodes import attribute


class Kind(Enum):
    """What quantization does to an operator; the value is the sentence."""

    MAC = "weights per output channel, bias int32; inputs quantized, the output behind what is fused with it"
    ELEMENTWISE = (
        "part of a unit when it reads one tensor and scalars, else every operand and the output quantized"
    )
    KEEP = "moves values without changing them: the output is quantized with the scale of the input"
    QUANTIZED = "float inputs and outputs quantized, each with its own scale"
    CPU = "the BPU never runs it: no pair is made for it"


Choose = Callable[[NodeProto, Net], Kind]


@dataclass(frozen=True, slots=True)
class OpRow:
    """One operator: its kind (or how to choose it) and the inputs that carry tensors (None: all).

    `types` are inputs that take one type only, whatever the activations are.
    """

    op: str
    kind: Kind | Choose
    data: tuple[int, ...] | None = None
    types: Mapping[int, DType] = field(default_factory=dict)


def _resize(node: NodeProto, _: Net) -> Kind:
    mode = attribute(node, "mode", "")
    return Kind.KEEP if only_moves("Resize", mode) else Kind.QUANTIZED if mode == "linear" else Kind.CPU


def _pad(node: NodeProto, net: Net) -> Kind:
    """A pad value that is not 0 need not lie on the input's grid."""
    if attribute(node, "mode", "constant") != "constant" or len(node.input) < 3 or not node.input[2]:
        return Kind.KEEP
    value = net.consts.get(node.input[2])
    return Kind.KEEP if value is not None and not np.any(value) else Kind.QUANTIZED


def _inference(node: NodeProto, _: Net) -> Kind:
    return Kind.CPU if attribute(node, "training_mode", 0) else Kind.QUANTIZED


_KINDS = {
    Does.VIEW: Kind.KEEP,
    Does.MOVE: Kind.KEEP,
    Does.CUT: Kind.KEEP,
    Does.PICK: Kind.KEEP,
    Does.JOIN: Kind.QUANTIZED,
    Does.PRODUCT: Kind.MAC,
    Does.ELEMENTWISE: Kind.ELEMENTWISE,
    Does.DECIDE: Kind.QUANTIZED,
    Does.COMPUTE: Kind.QUANTIZED,
    Does.FIND: Kind.QUANTIZED,
    Does.OTHER: Kind.CPU,
}
_BY_NODE: Mapping[str, Kind | Choose] = {
    "BatchNormalization": _inference,
    "Mean": Kind.QUANTIZED,  # it is no part of a unit
    "Pad": _pad,
    "Resize": _resize,
    "TopK": Kind.KEEP,
}
"""Operators whose nodes differ, or that take part in another way than what they do would say."""

_TYPES: Mapping[str, Mapping[int, DType]] = {
    **{op: {1: DType.INT8} for op in PRODUCTS},  # of two computed operands, b is int8
    "Div": {1: DType.INT8},
    "GridSample": {0: DType.INT8, 1: DType.INT16},
}

ROWS = tuple(
    OpRow(op.name, _BY_NODE.get(op.name, _KINDS[op.does]), op.data, _TYPES.get(op.name, {}))
    for op in ONNX_OPS.values()
)
TABLE = {row.op: row for row in ROWS}


def kind_of(node: NodeProto, net: Net) -> Kind:
    """Return how `node` takes part: CPU for other domains, without a row, or without a float tensor."""
    row = TABLE.get(node.op_type)
    if row is None or node.domain not in {"", "ai.onnx"}:
        return Kind.CPU
    if not any(net.is_float(name) for name in data_inputs(node)):
        return Kind.CPU
    return row.kind if isinstance(row.kind, Kind) else row.kind(node, net)


def data_inputs(node: NodeProto) -> list[str]:
    """Return the inputs that carry tensors: not axes, shapes, limits or parameters, nor omitted ones."""
    row = TABLE.get(node.op_type)
    if row is None or row.data is None:
        return [name for name in node.input if name]
    return [node.input[i] for i in row.data if i < len(node.input) and node.input[i]]
