"""Passes: pure functions Graph → Graph, in the order of NORMALISE and SETTLE, with the reason beside each."""

from __future__ import annotations

from collections.abc import Callable

from openbpu.compiler.ir import Graph
from openbpu.compiler.passes.compose import compose_tables, fuse_tables
from openbpu.compiler.passes.layout import settle_layout
from openbpu.compiler.passes.moves import (
    cancel_pairs,
    fold_constant_quantize,
    hoist_quantize,
    sink_dequantize,
)
from openbpu.compiler.passes.pads import fold_pads
from openbpu.compiler.passes.qoperator import unfold_qoperators
from openbpu.compiler.passes.reshapes import sink_reshapes
from openbpu.compiler.passes.signed import sign_codes
from openbpu.compiler.passes.uniform import uniform_to_scalar

Pass = Callable[[Graph], Graph]

NORMALISE: tuple[tuple[Pass, str], ...] = (
    (unfold_qoperators, "one quantized form is left: Q and DQ around float operators"),
    (fold_constant_quantize, "weights that the exporter quantizes in the graph become codes"),
    (
        uniform_to_scalar,
        "a tensor of one value is a number to all that look for numbers: tables, clamps, powers",
    ),
    (sign_codes, "one sign is left: unsigned codes become signed ones, before anything looks at zero points"),
    (sink_reshapes, "the Add and Relu behind a linear layer must stand beside its Gemm to be fused into it"),
    (sink_dequantize, "moves work on codes, so that the next operator sees a Dequantize"),
    (hoist_quantize, "moves work on codes, so that the operator in front sees a Quantize"),
    (sink_dequantize, "what the hoisted Quantize uncovered"),
    (cancel_pairs, "Q(DQ(c)) with one scale is c, and must not become a rescale"),
)
"""ONNX → ONNX: what integerise expects."""

SETTLE: tuple[tuple[Pass, str], ...] = (
    (compose_tables, "chains of look-ups first, while every link is still a node"),
    (settle_layout, "transposes meet and cancel only when all operators are integer"),
    (fold_pads, "a border stands in front of its convolution only when no transpose is between them"),
    (fuse_tables, "last: a table behind a convolution must not hide it from the transposes"),
)
"""BPU → BPU: what lowering expects."""


def run(passes: tuple[tuple[Pass, str], ...], graph: Graph) -> Graph:
    """Apply passes in order."""
    for step, _ in passes:
        graph = step(graph)
    return graph
