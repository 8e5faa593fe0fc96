"""Operator → function that lowers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openbpu.arch import program as p
from openbpu.simulator.fast.lower import elementwise, moves, windows
from openbpu.simulator.fast.lower.conv import lower_conv
from openbpu.simulator.fast.lower.matmul import lower_matmul
from openbpu.simulator.fast.lower.steps import Lowering

LOWER: dict[type[p.Operator], Callable[[Any, Lowering], None]] = {
    p.Conv: lower_conv,
    p.MatMul: lower_matmul,
    p.Binary: elementwise.lower_binary,
    p.Lut: elementwise.lower_lut,
    p.SegmentLut: elementwise.lower_segment_lut,
    p.Rescale: elementwise.lower_rescale,
    p.Pool: windows.lower_pool,
    p.Reduce: windows.lower_reduce,
    p.Softmax: windows.lower_softmax,
    p.LayerNorm: windows.lower_layernorm,
    p.Move: moves.lower_move,
    p.Concat: moves.lower_concat,
    p.Pad: moves.lower_pad,
    p.Gather: moves.lower_gather,
    p.Resize: windows.lower_resize,
    p.Quantize: elementwise.lower_quantize,
    p.Dequantize: elementwise.lower_dequantize,
}


def lower_segment(low: Lowering) -> None:
    """Fill `low` with the steps of all operators; inputs live from the start and outputs to the end."""
    for tensor_id in low.segment.inputs:
        low.read(tensor_id)
    for index, operator in enumerate(low.segment.operators):
        low.now = index
        LOWER[type(operator)](operator, low)
    low.now = len(low.segment.operators)
    for tensor_id in low.segment.outputs:
        low.read(tensor_id)
