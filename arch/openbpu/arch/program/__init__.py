"""What a compiled program is: tensors, operators (layers), segments; no bytes and no cycles here.

An operator is defined in its room, `openbpu.arch.operators`; those named here can be had from both.
"""

from openbpu.arch.definition.operator import Operator
from openbpu.arch.operators import OPERATORS
from openbpu.arch.operators.convert import Dequantize, Quantize
from openbpu.arch.operators.elementwise import Binary, Rescale
from openbpu.arch.operators.move import Concat, Gather, Move, Pad
from openbpu.arch.operators.reduce import Reduce
from openbpu.arch.operators.row import LayerNorm, Softmax
from openbpu.arch.operators.table import Lut, SegmentLut
from openbpu.arch.operators.tensor.conv import Conv
from openbpu.arch.operators.tensor.matmul import MatMul
from openbpu.arch.operators.window import Pool, Resize
from openbpu.arch.program.structure import (
    NO_COST,
    BpuSegment,
    CpuCost,
    CpuSegment,
    DebugEntry,
    Placement,
    Program,
    Segment,
)
from openbpu.arch.tensors import Space, Tensor

__all__ = [
    "NO_COST",
    "OPERATORS",
    "Binary",
    "BpuSegment",
    "Concat",
    "Conv",
    "CpuCost",
    "CpuSegment",
    "DebugEntry",
    "Dequantize",
    "Gather",
    "LayerNorm",
    "Lut",
    "MatMul",
    "Move",
    "Operator",
    "Pad",
    "Placement",
    "Pool",
    "Program",
    "Quantize",
    "Reduce",
    "Rescale",
    "Resize",
    "Segment",
    "SegmentLut",
    "Softmax",
    "Space",
    "Tensor",
]
