"""Activations and pools behind a convolution, no Quantize between them: exact, or by an int16 rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from compiler.foreign import (
    Array,
    Foreign,
    codes,
    conv,
    ended,
    feed_of,
    image,
    normal,
    off,
    rows,
    silu,
    spread,
    stored_rows,
)
from openbpu.arch.hbm import to_bytes
from openbpu.arch.march import get_march
from openbpu.compiler import check
from openbpu.compiler import compile as build
from openbpu.compiler.ops.tables import ROOM
from openbpu.compiler.passes import NORMALISE, run
from openbpu.compiler.passes.cuts import Cutter
from openbpu.compiler.passes.intervals import Intervals
from openbpu.compiler.reader import read_model
from openbpu.evaluation.reference.float64 import evaluate
from witness.ort import with_outputs

QDQ = ("QuantizeLinear", "DequantizeLinear")
Body = Callable[[Foreign, str], str]


def function(op: str, **attrs: Any) -> Body:
    return lambda g, x: g.node(op, conv(g, x), **attrs)


def gelu_by_erf(g: Foreign, x: str) -> str:
    y = conv(g, x)
    erf = g.node("Erf", g.node("Div", y, g.constant(2**0.5)))
    return g.node("Mul", g.node("Mul", y, g.node("Add", erf, g.constant(1))), g.constant(0.5))


def swish_by_clip(g: Foreign, x: str) -> str:
    y = conv(g, x)
    gate = g.node("Clip", g.node("Add", y, g.constant(3)), g.constant(0), g.constant(6))
    return g.node("Div", g.node("Mul", y, gate), g.constant(6))


def slopes(g: Foreign) -> str:
    return g.constant(spread(8, 0, 0.05, 0.3).reshape(8, 1, 1))


FUNCTIONS: dict[str, Body] = {
    "SiLU": lambda g, x: silu(g, conv(g, x)),
    "SiLU twice": lambda g, x: silu(g, conv(g, g.pair(silu(g, conv(g, x)), 0.06, 10, "uint8"))),
    "SiLU of a sum": lambda g, x: silu(g, g.node("Add", conv(g, x), x)),
    "SiLU, turned": lambda g, x: g.node("Transpose", silu(g, conv(g, x)), perm=[0, 1, 3, 2]),
    "Sigmoid": function("Sigmoid"),
    "HardSwish": function("HardSwish"),
    "Gelu": function("Gelu"),
    "LeakyRelu": function("LeakyRelu", alpha=0.1),
    "Elu": function("Elu"),
    "PRelu": lambda g, x: g.node("PRelu", conv(g, x), slopes(g)),
    "PRelu, quantized": lambda g, x: g.node("PRelu", conv(g, x), g.pair(slopes(g), 0.3 / 127)),
    "Erf": gelu_by_erf,
    "Clip": swish_by_clip,
    "gate": lambda g, x: g.node("Mul", x, g.node("Sigmoid", conv(g, x))),
    "sum of two": lambda g, x: g.node("Relu", g.node("Add", conv(g, x), conv(g, x))),
    "mean": lambda g, x: g.node("AveragePool", silu(g, conv(g, x)), kernel_shape=[3, 3], pads=[1] * 4),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_behind_a_convolution_is_one_step_off_at_most(name: str) -> None:
    g, x = image()
    worst, share = off(ended(g, FUNCTIONS[name](g, x), 0.06, 10), 0.06)
    assert worst <= 1.001
    assert share <= 0.03


@pytest.mark.parametrize("op", ["Gelu", "HardSwish"])
def test_an_int16_result_is_as_near_as_the_page_says(op: str) -> None:
    """0.5 of its own rounding, the room of the other, and what the page gives the table."""
    g, x = image()
    g.output(g.pair(g.node(op, conv(g, x)), 0.0003, 0, "int16", out="y"), (1, 8, 6, 6))
    assert off(g.model(), 0.0003)[0] <= 0.5 + ROOM["int16"] + 1.4


# --- exact ------------------------------------------------------------------------------------------------


def relu_conv(g: Foreign, x: str) -> str:
    return g.node("Relu", conv(g, x))


def pool(op: str, side: int, stride: int, pad: int) -> Callable[[Foreign, str], str]:
    return lambda g, x: g.node(op, x, kernel_shape=[side] * 2, strides=[stride] * 2, pads=[pad] * 4)


def batch_norm(g: Foreign, x: str) -> str:
    return g.node("BatchNormalization", x, *(g.constant(spread(8, i, 0.5, 1.5)) for i in range(4)))


def parts(g: Foreign, x: str, other: float) -> str:
    """A Split of what nothing has quantized, its parts quantized and joined."""
    halves = g.nodes_of("Split", relu_conv(g, x), parts=2, axis=1, num_outputs=2)
    ends = [g.pair(h, s, 0, "uint8") for h, s in zip(halves, (0.15, other), strict=True)]
    return g.node("Concat", *ends, axis=1)


EXACT: dict[str, tuple[Body, tuple[int, ...]]] = {
    "Relu, MaxPool": (lambda g, x: pool("MaxPool", 3, 2, 1)(g, relu_conv(g, x)), (1, 8, 3, 3)),
    "MaxPool, Relu": (lambda g, x: g.node("Relu", pool("MaxPool", 2, 2, 0)(g, conv(g, x))), (1, 8, 3, 3)),
    "BatchNormalization, MaxPool": (
        lambda g, x: pool("MaxPool", 2, 2, 0)(g, batch_norm(g, conv(g, x))),
        (1, 8, 3, 3),
    ),
    "GlobalMaxPool": (lambda g, x: g.node("GlobalMaxPool", relu_conv(g, x)), (1, 8, 1, 1)),
    "ReduceMax": (
        lambda g, x: g.node("ReduceMax", relu_conv(g, x), g.constant([2, 3], "int64")),
        (1, 8, 1, 1),
    ),
    "Split": (lambda g, x: parts(g, x, 0.15), (1, 8, 6, 6)),
}


@pytest.mark.parametrize("name", EXACT)
def test_what_picks_takes_the_scale_behind_it(name: str) -> None:
    body, shape = EXACT[name]
    g, x = image()
    assert off(ended(g, body(g, x), 0.15, 110, shape), 0.15)[1] == 0


MEANS: dict[str, tuple[Body, tuple[int, ...]]] = {
    "AveragePool": (lambda g, x: pool("AveragePool", 2, 2, 0)(g, relu_conv(g, x)), (1, 8, 3, 3)),
    "AveragePool, Relu": (
        lambda g, x: g.node("Relu", pool("AveragePool", 2, 2, 0)(g, conv(g, x))),
        (1, 8, 3, 3),
    ),
    "GlobalAveragePool": (lambda g, x: g.node("GlobalAveragePool", relu_conv(g, x)), (1, 8, 1, 1)),
    "ReduceMean": (
        lambda g, x: g.node("ReduceMean", relu_conv(g, x), g.constant([2, 3], "int64")),
        (1, 8, 1, 1),
    ),
    "Split": (lambda g, x: parts(g, x, 0.2), (1, 8, 6, 6)),
    "Concat": (lambda g, x: g.node("Concat", relu_conv(g, x), silu(g, conv(g, x)), axis=1), (1, 16, 6, 6)),
}


@pytest.mark.parametrize("name", MEANS)
def test_means_and_parts_are_one_step_off_at_most(name: str) -> None:
    body, shape = MEANS[name]
    g, x = image()
    worst, share = off(ended(g, body(g, x), 0.15, 110, shape), 0.15)
    assert worst <= 1.001
    assert share <= 0.03


PRODUCTS: dict[str, tuple[Body, tuple[int, ...], float]] = {
    "Gelu": (
        lambda g, x: g.node(
            "Gelu", g.node("Add", g.node("MatMul", x, stored_rows(g)), g.constant(normal((12,))))
        ),
        (5, 12),
        0.1,
    ),
    "Reshape, Gelu": (
        lambda g, x: g.node(
            "Gelu", g.node("Reshape", g.node("Gemm", x, stored_rows(g)), g.constant([1, 5, 12], "int64"))
        ),
        (1, 5, 12),
        0.1,
    ),
    "mask": (
        lambda g, x: g.node(
            "Add", g.node("MatMul", x, g.node("Transpose", x, perm=[1, 0])), g.constant(normal((5, 5)))
        ),
        (5, 5),
        0.2,
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_what_follows_a_product_is_one_step_off_at_most(name: str) -> None:
    body, shape, step = PRODUCTS[name]
    g, x = rows()
    assert off(ended(g, body(g, x), step, 100, shape), step)[0] <= 1.001


# --- what stays -------------------------------------------------------------------------------------------


def test_a_jump_gets_no_rounding_in_front() -> None:
    g, x = image()
    assert "Floor" in {
        row.op for row in check(ended(g, function("Floor")(g, x)), march="nash-e") if row.on == "CPU"
    }


def test_a_convolution_that_the_march_cannot_do_keeps_its_graph() -> None:
    """Nothing is rounded in front of what stays on the CPU."""
    g, x = image()
    y = g.node(
        "Conv",
        x,
        g.stored(codes((8, 8, 3, 3)), spread(8), axis=0),
        pads=[4] * 4,
        dilations=[2, 2],
        strides=[3, 3],
    )
    program = build(ended(g, silu(g, y), 0.06, 10, (1, 8, 4, 4)), march="nash-e")
    assert b"/rounded/" not in to_bytes(program)


# --- intervals --------------------------------------------------------------------------------------------


def wide(g: Foreign, x: str) -> str:
    """Operators whose intervals are worked out by rules of their own."""
    y = g.node("Sub", g.node("Mul", conv(g, x), g.constant(-0.3)), g.node("Sigmoid", conv(g, x)))
    y = g.node(
        "Max", g.node("BatchNormalization", y, *(g.constant(spread(8, i, 0.5, 1.5)) for i in range(4))), x
    )
    return g.node("ReduceSum", g.node("Softplus", y), g.constant([3], "int64"))


@pytest.mark.parametrize("seed", [0, 1])
def test_every_float_lies_in_its_interval(seed: int) -> None:
    """Also for inputs at the ends of their range, which conspire with the signs of the weights."""
    g, x = image()
    model = ended(g, wide(g, x), 1.0, 0, (1, 8, 6, 1))
    graph = run(NORMALISE, read_model(model))
    cutter = Cutter(graph, get_march("nash-e"), {})
    names = [o for n in model.graph.node for o in n.output if o in graph.values and n.op_type not in QDQ]
    feed: dict[str, Array] = {k: np.sign(v) * 100 for k, v in feed_of(model, seed).items()}
    found = evaluate(with_outputs(model, names), feed).outputs
    known = {n: Intervals(cutter.site).of(n) for n in names}
    assert sum(ends is not None for ends in known.values()) > 8
    for name, ends in known.items():
        if ends is not None:
            room = 1e-6 * (abs(ends[0]) + abs(ends[1]))
            assert ends[0] - room <= found[name].min()
            assert found[name].max() <= ends[1] + room


def test_a_graph_without_a_product_is_not_cut() -> None:
    g, x = image()
    graph = run(NORMALISE, read_model(ended(g, g.node("Mul", g.node("Exp", x), g.node("Neg", x)))))
    cutter = Cutter(graph, get_march("nash-e"), {})
    assert not any(cutter.cuts(name) for node in graph.nodes for name in node.outputs)
