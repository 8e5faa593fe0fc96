"""Operator → function that lowers it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


_BYTES = ("elementwise", "vector")
_SUMS = ("conv", "vector")

FAMILIES: dict[type[p.Operator], tuple[str, ...]] = {
    p.Conv: (*_SUMS, "depthwise", "moves"),
    p.MatMul: (*_SUMS, "rare"),
    p.Binary: _BYTES,
    p.Lut: _BYTES,
    p.SegmentLut: _BYTES,
    p.Rescale: _BYTES,
    p.Pool: ("pool",),
    p.Reduce: ("pool",),
    p.Softmax: ("rows",),
    p.LayerNorm: ("rows",),
    p.Move: ("moves", "vector"),
    p.Concat: ("moves", *_BYTES),
    p.Pad: ("moves",),
    p.Gather: ("moves",),
    p.Resize: ("pool",),
    p.Quantize: _BYTES,
    p.Dequantize: _BYTES,
}
"""The families of kernels that may run an operator; "vector" is the one of the kernel mode."""


def families_of(kinds: Iterable[type[p.Operator]], mode: str) -> tuple[str, ...]:
    """Return the families of kernels that a segment with operators of these kinds loads."""
    wanted = {"drive", *(family for kind in kinds for family in FAMILIES[kind])}
    return tuple(sorted(f"vector_{mode}" if family == "vector" else family for family in wanted))


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
