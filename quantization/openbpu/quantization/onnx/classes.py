"""How each ONNX operator takes part in quantization: one row per operator.

An operator without a row is left alone, as a row of kind CPU is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from onnx import NodeProto

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.net import Net, attribute


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
    modes = {"nearest": Kind.KEEP, "linear": Kind.QUANTIZED}
    return modes.get(attribute(node, "mode", "nearest"), Kind.CPU)


def _pad(node: NodeProto, net: Net) -> Kind:
    """A pad value that is not 0 need not lie on the input's grid."""
    if attribute(node, "mode", "constant") != "constant" or len(node.input) < 3 or not node.input[2]:
        return Kind.KEEP
    value = net.consts.get(node.input[2])
    return Kind.KEEP if value is not None and not np.any(value) else Kind.QUANTIZED


def _inference(node: NodeProto, _: Net) -> Kind:
    return Kind.CPU if attribute(node, "training_mode", 0) else Kind.QUANTIZED


_M, _E, _K, _Q, _C = Kind.MAC, Kind.ELEMENTWISE, Kind.KEEP, Kind.QUANTIZED, Kind.CPU
_SECOND_INT8 = {1: DType.INT8}

ROWS = (
    # Multiply-accumulate of (activation, weight); input 2 is the bias. Of two computed operands, b is int8.
    OpRow("Conv", _M, (0, 1), _SECOND_INT8),
    OpRow("ConvTranspose", _M, (0, 1), _SECOND_INT8),
    OpRow("Gemm", _M, (0, 1), _SECOND_INT8),
    OpRow("MatMul", _M, (0, 1), _SECOND_INT8),
    # One tensor in, one out, element by element.
    OpRow("Abs", _E),
    OpRow("Acos", _E),
    OpRow("Acosh", _E),
    OpRow("Asin", _E),
    OpRow("Asinh", _E),
    OpRow("Atan", _E),
    OpRow("Atanh", _E),
    OpRow("Ceil", _E),
    OpRow("Celu", _E),
    OpRow("Clip", _E, (0,)),
    OpRow("Cos", _E),
    OpRow("Cosh", _E),
    OpRow("Elu", _E),
    OpRow("Erf", _E),
    OpRow("Exp", _E),
    OpRow("Floor", _E),
    OpRow("Gelu", _E),
    OpRow("HardSigmoid", _E),
    OpRow("HardSwish", _E),
    OpRow("LeakyRelu", _E),
    OpRow("Log", _E),
    OpRow("Mish", _E),
    OpRow("Neg", _E),
    OpRow("Reciprocal", _E),
    OpRow("Relu", _E),
    OpRow("Round", _E),
    OpRow("Selu", _E),
    OpRow("Shrink", _E),
    OpRow("Sigmoid", _E),
    OpRow("Sign", _E),
    OpRow("Sin", _E),
    OpRow("Sinh", _E),
    OpRow("Softplus", _E),
    OpRow("Softsign", _E),
    OpRow("Sqrt", _E),
    OpRow("Swish", _E),
    OpRow("Tan", _E),
    OpRow("Tanh", _E),
    OpRow("ThresholdedRelu", _E),
    # Two tensors or more.
    OpRow("Add", _E),
    OpRow("Div", _E, types={1: DType.INT8}),
    OpRow("Max", _E),
    OpRow("Min", _E),
    OpRow("Mul", _E),
    OpRow("PRelu", _E),
    OpRow("Pow", _E),
    OpRow("Sub", _E),
    OpRow("Sum", _E),
    # Movement: the same integers in another place.
    OpRow("DepthToSpace", _K, (0,)),
    OpRow("Expand", _K, (0,)),
    OpRow("Flatten", _K, (0,)),
    OpRow("Gather", _K, (0,)),
    OpRow("Identity", _K, (0,)),
    OpRow("MaxPool", _K, (0,)),
    OpRow("Pad", _pad, (0,)),
    OpRow("Reshape", _K, (0,)),
    OpRow("Resize", _resize, (0,)),
    OpRow("Slice", _K, (0,)),
    OpRow("SpaceToDepth", _K, (0,)),
    OpRow("Split", _K, (0,)),
    OpRow("Squeeze", _K, (0,)),
    OpRow("Tile", _K, (0,)),
    OpRow("Transpose", _K, (0,)),
    OpRow("Unsqueeze", _K, (0,)),
    # A scale of their own on each side. Concat: every input keeps its own, the output has its own.
    OpRow("AveragePool", _Q),
    OpRow("BatchNormalization", _inference, (0,)),
    OpRow("Concat", _Q),
    OpRow("Equal", _Q),
    OpRow("GlobalAveragePool", _Q),
    OpRow("GlobalMaxPool", _Q),
    OpRow("Greater", _Q),
    OpRow("GreaterOrEqual", _Q),
    OpRow("GridSample", _Q, types={0: DType.INT8, 1: DType.INT16}),
    OpRow("GroupNormalization", _Q, (0,)),
    OpRow("InstanceNormalization", _Q, (0,)),
    OpRow("LayerNormalization", _Q, (0,)),
    OpRow("Less", _Q),
    OpRow("LessOrEqual", _Q),
    OpRow("LpNormalization", _Q),
    OpRow("Mean", _Q),
    OpRow("RMSNormalization", _Q, (0,)),
    OpRow("ReduceL1", _Q, (0,)),
    OpRow("ReduceL2", _Q, (0,)),
    OpRow("ReduceMax", _Q, (0,)),
    OpRow("ReduceMean", _Q, (0,)),
    OpRow("ReduceMin", _Q, (0,)),
    OpRow("ReduceSum", _Q, (0,)),
    OpRow("ReduceSumSquare", _Q, (0,)),
    OpRow("Softmax", _Q),
    OpRow("Where", _Q, (1, 2)),
    # Never on the BPU: listed so that nobody wonders.
    OpRow("ArgMax", _C),
    OpRow("ArgMin", _C),
    OpRow("Cast", _C),
    OpRow("Compress", _C),
    OpRow("CumSum", _C),
    OpRow("Einsum", _C),
    OpRow("GRU", _C),
    OpRow("GatherElements", _C),
    OpRow("GatherND", _C),
    OpRow("If", _C),
    OpRow("LRN", _C),
    OpRow("LSTM", _C),
    OpRow("LogSoftmax", _C),
    OpRow("Loop", _C),
    OpRow("Mod", _C),
    OpRow("NonMaxSuppression", _C),
    OpRow("NonZero", _C),
    OpRow("RNN", _C),
    OpRow("Range", _C),
    OpRow("RoiAlign", _C),
    OpRow("Scan", _C),
    OpRow("ScatterElements", _C),
    OpRow("ScatterND", _C),
    OpRow("Shape", _C),
    OpRow("TopK", _C),
    OpRow("Unique", _C),
)

TABLE = {row.op: row for row in ROWS}

PRODUCTS = frozenset(row.op for row in TABLE.values() if row.kind is Kind.MAC)
"""Operators that the MAC array sums up."""


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
