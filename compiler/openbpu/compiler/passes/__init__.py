"""Passes: pure functions Graph → Graph, in the order of NORMALISE and SETTLE, with the reason beside each."""

from __future__ import annotations

from collections.abc import Callable

from openbpu.compiler.ir import Graph
from openbpu.compiler.ir.verify import verify_after
from openbpu.compiler.passes.blocks import unblock
from openbpu.compiler.passes.channel_scales import scales_to_factors
from openbpu.compiler.passes.code_clamps import clamps_of_reals
from openbpu.compiler.passes.compose import compose_tables, fuse_tables
from openbpu.compiler.passes.constants import fold_constants
from openbpu.compiler.passes.half_floats import widen_half_floats
from openbpu.compiler.passes.indices import finders_of_reals
from openbpu.compiler.passes.integer_products import products_of_reals
from openbpu.compiler.passes.layout import settle_layout
from openbpu.compiler.passes.moves import (
    cancel_pairs,
    hoist_quantize,
    sink_dequantize,
)
from openbpu.compiler.passes.negative_scales import positive_scales
from openbpu.compiler.passes.pads import fold_pads
from openbpu.compiler.passes.qoperator import unfold_qoperators
from openbpu.compiler.passes.reshapes import sink_reshapes
from openbpu.compiler.passes.signed import sign_codes
from openbpu.compiler.passes.small_integers import widen_small_integers
from openbpu.compiler.passes.uniform import uniform_to_scalar

Pass = Callable[[Graph], Graph]

NORMALISE: tuple[tuple[Pass, str], ...] = (
    (widen_half_floats, "one type of float is left, before anything reads a scale"),
    (unfold_qoperators, "one quantized form is left: Q and DQ around float operators"),
    (products_of_reals, "products of integers, too, are float operators between Q and DQ"),
    (unblock, "scales in blocks that say no more than one scale per channel are read as such"),
    (widen_small_integers, "codes of 4 bits are codes of 8 that are clamped, before anything is folded"),
    (fold_constants, "what is made of constants alone becomes constant: weights behind Quantize, Clip, …"),
    (positive_scales, "scales that divide and add are positive; only a weight may have a negative one"),
    (clamps_of_reals, "a clamp of codes is fused as a clamp of reals is"),
    (finders_of_reals, "an ArgMax of codes is one of reals, before codes change their sign"),
    (
        uniform_to_scalar,
        "a tensor of one value is a number to all that look for numbers: tables, clamps, powers",
    ),
    (sign_codes, "one sign is left: unsigned codes become signed ones, before anything looks at zero points"),
    (scales_to_factors, "scales per channel of what stays apart per channel, while Q and DQ are neighbours"),
    (sink_reshapes, "the Add and Relu behind a linear layer must stand beside its Gemm to be fused into it"),
    (sink_dequantize, "moves work on codes, so that the next operator sees a Dequantize"),
    (hoist_quantize, "moves work on codes, so that the operator in front sees a Quantize"),
    (sink_dequantize, "what the hoisted Quantize uncovered"),
    (fold_constants, "a Quantize that was hoisted meets constants: they take its scale"),
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
    """Apply passes in order; each graph on the way is verified where that is asked for (`ir.verify`)."""
    for step, _ in passes:
        graph = step(graph)
        verify_after(graph, step)
    return graph
