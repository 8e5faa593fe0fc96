"""What ONNX operators do with the tensors they read: one table for the compiler, quantization and torch.

A row says what an operator is. What a package makes of it (a rule of placement, a pair, a module) stands in
that package and reads the row, so that nothing has to be kept alike by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from openbpu.arch.numerics.functions import BINARY, UNARY


class Does(Enum):
    """What an operator makes of its tensors; the value is the sentence."""

    VIEW = "the elements of input 0 in their order, in another shape"
    MOVE = "all elements of input 0 in other places, some of them several times"
    CUT = "some of the elements of input 0"
    PICK = "of every window the largest element: codes stay codes of the same scale"
    JOIN = "the elements of several inputs side by side"
    PRODUCT = "sums of products of two operands, and a bias (input 2)"
    ELEMENTWISE = "every element from those beside it in the operands"
    DECIDE = "for every element a bool, from those beside it in the operands"
    COMPUTE = "sums, rows, windows or choices, on a scale of their own"
    FIND = "which elements of input 0 come first along an axis, and where they are: integers"
    OTHER = "what the BPU has no unit for"


@dataclass(frozen=True, slots=True)
class OnnxOp:
    """One operator.

    data: the inputs that carry tensors, not axes, shapes, limits or parameters (None: all of them). modes:
    the values of its attribute `mode`, the default first, in which it does no more than move input 0 and, a
    Pad, fill up what is around it.
    """

    name: str
    does: Does
    data: tuple[int, ...] | None = None
    modes: tuple[str, ...] = ()


def _rows(does: Does, names: str, *data: int) -> tuple[OnnxOp, ...]:
    return tuple(OnnxOp(name, does, data or None) for name in names.split())


_FUNCTIONS = {*UNARY, *BINARY} - {"Identity"}
_OPERANDS = {"Clip": (0,)}

_ROWS = (
    *_rows(Does.VIEW, "Flatten Identity Reshape Squeeze Unsqueeze", 0),
    *_rows(Does.MOVE, "DepthToSpace Expand SpaceToDepth Tile Transpose", 0),
    *_rows(Does.CUT, "Gather Slice Split", 0),
    *_rows(Does.PICK, "MaxPool", 0),
    *_rows(Does.JOIN, "Concat"),
    *_rows(Does.PRODUCT, "Conv ConvTranspose Gemm MatMul", 0, 1),
    *(OnnxOp(name, Does.ELEMENTWISE, _OPERANDS.get(name)) for name in sorted(_FUNCTIONS)),
    *_rows(Does.DECIDE, "And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Xor"),
    OnnxOp("Pad", Does.COMPUTE, (0,), ("constant", "edge", "reflect", "wrap")),
    OnnxOp("Resize", Does.COMPUTE, (0,), ("nearest",)),
    *_rows(Does.COMPUTE, "AveragePool"),
    *_rows(Does.COMPUTE, "BatchNormalization CumSum", 0),
    *_rows(Does.COMPUTE, "GlobalAveragePool GlobalMaxPool GridSample"),
    *_rows(Does.COMPUTE, "GroupNormalization InstanceNormalization LayerNormalization", 0),
    *_rows(Does.COMPUTE, "LpNormalization"),
    *_rows(Does.COMPUTE, "RMSNormalization ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum", 0),
    *_rows(Does.COMPUTE, "ReduceSumSquare", 0),
    *_rows(Does.COMPUTE, "Softmax"),
    *_rows(Does.COMPUTE, "Where", 1, 2),
    *_rows(Does.FIND, "ArgMax ArgMin TopK", 0),
    *_rows(Does.OTHER, "Cast Compress Einsum GRU GatherElements GatherND If LRN LSTM"),
    *_rows(Does.OTHER, "LogSoftmax Loop NonMaxSuppression NonZero RNN Range RoiAlign Scan ScatterElements"),
    *_rows(Does.OTHER, "ScatterND Shape Unique"),
)

ONNX_OPS = {row.name: row for row in _ROWS}
"""Operators of ONNX's own domain by name. One that is not here is left alone, as those that are OTHER."""


def that(*does: Does) -> frozenset[str]:
    """Return the operators that do one of these."""
    return frozenset(row.name for row in ONNX_OPS.values() if row.does in does)


VIEWS = that(Does.VIEW)
RESHAPES = VIEWS - {"Identity"}
CUTS = that(Does.CUT)
MOVES = that(Does.VIEW, Does.MOVE, Does.CUT)
"""The elements of the result are elements of input 0, whatever the attributes."""
PRODUCTS = that(Does.PRODUCT)
DECISIONS = that(Does.DECIDE)
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
MATRIX_PRODUCTS = PRODUCTS - CONVOLUTIONS
POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
CARRIERS = MOVES | that(Does.PICK, Does.JOIN) | {"Resize"}
"""What gives codes of a scale, and gets such, where all of its data have that scale."""


def only_moves(op: str, mode: str = "") -> bool:
    """Whether an operator only moves input 0, in this `mode` (the attribute; "" for its default)."""
    row = ONNX_OPS.get(op)
    if row is None or not row.modes:
        return op in MOVES
    return (mode or row.modes[0]) in row.modes
