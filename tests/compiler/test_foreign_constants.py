"""Constants behind chains of Quantize, Clip, Cast and moves; codes of 4 bits; blocks; signs of scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from compiler.foreign import Foreign, codes, conv, ended, image, normal, off, rows, spread
from openbpu.arch.errors import ModelError
from openbpu.compiler import check
from openbpu.compiler import compile as build

S = spread(8)
W = codes((8, 8, 3, 3))
Weight = Callable[[Foreign], str]


def quantized(g: Foreign, *steps: str, dtype: str = "int8", zero: int = 0) -> str:
    """A float weight behind Quantize, some steps on its codes, and Dequantize."""
    terms = g.scaling(S, zero, dtype)
    q = g.node("QuantizeLinear", g.constant(normal((8, 8, 3, 3)) / 2), *terms, axis=0)
    for step in steps:
        if step == "Clip":
            q = g.node("Clip", q, g.constant(-127, dtype), g.constant(127, dtype))
        elif step == "Cast":
            q = g.node("Cast", g.node("Cast", q, to=6), to=3)
        else:
            q = g.node(step, q)
    return g.node("DequantizeLinear", q, *terms, axis=0)


def twice_quantized(g: Foreign) -> str:
    return g.pair(g.stored(W, np.float32(0.01)), 0.011)


def scaled(g: Foreign) -> str:
    gain = g.constant(spread(8, 1, 0.5, 1.5).reshape(8, 1, 1, 1))
    product = g.node("Mul", g.stored(W, np.float32(0.01)), gain)
    terms = g.scaling(S, 0, "int8")
    return g.node("DequantizeLinear", g.node("QuantizeLinear", product, *terms, axis=0), *terms, axis=0)


def clamped_reals(g: Foreign) -> str:
    """A Clip of what is dequantized, at bounds that are codes."""
    return g.node("Clip", g.stored(W, np.float32(0.0078125)), g.constant(-0.5), g.constant(0.75))


def computed_scale(g: Foreign) -> str:
    scale = g.node("Cast", g.node("Div", g.constant(S * 127, np.float64), g.constant(127, np.float64)), to=1)
    zero = g.node("Cast", g.constant(np.zeros(8), np.int32), to=3)
    return g.node("DequantizeLinear", g.constant(W, "int8"), scale, zero, axis=0)


def half_scale(g: Foreign) -> str:
    scale = g.node("Cast", g.constant(S, np.float16), to=1)
    return g.node("DequantizeLinear", g.constant(W, "int8"), scale, axis=0)


def bits(dtype: str, low: int, high: int, zero: int = 0) -> Weight:
    return lambda g: g.stored(codes((8, 8, 3, 3), 0, low, high), spread(8, 0, 0.1, 0.3), zero, dtype, axis=0)


def quantized_to_4_bits(g: Foreign) -> str:
    terms = g.scaling(spread(8, 0, 0.1, 0.3), 0, "int4")
    q = g.node("QuantizeLinear", g.constant(normal((8, 8, 3, 3))), *terms, axis=0)
    return g.node("DequantizeLinear", q, *terms, axis=0)


SIGNS = np.where(np.arange(8) % 2, -1, 1)
WEIGHTS: dict[str, Weight] = {
    "quantized": quantized,
    "quantized to uint8": lambda g: quantized(g, dtype="uint8", zero=128),
    "clipped": lambda g: quantized(g, "Clip"),
    "copied": lambda g: quantized(g, "Identity", "Clip", "Identity"),
    "cast": lambda g: quantized(g, "Cast"),
    "quantized twice": twice_quantized,
    "scaled, then quantized": scaled,
    "reals clipped": clamped_reals,
    "computed scale": computed_scale,
    "half scale": half_scale,
    "scale of shape [1]": lambda g: g.stored(W, np.array([0.01])),
    "int4": bits("int4", -8, 7),
    "int4 with zero point": bits("int4", -8, 7, 3),
    "uint4": bits("uint4", 0, 15, 8),
    "quantized to int4": quantized_to_4_bits,
    "negative scale": lambda g: g.stored(W, np.float32(-0.01)),
    "negative scales": lambda g: g.stored(W, S * SIGNS, axis=0),
    "negative scales and zero point": lambda g: g.stored(W, S * SIGNS, 3, axis=0),
    "one block per channel": lambda g: g.node(
        "DequantizeLinear",
        g.constant(W, "int8"),
        g.constant(np.broadcast_to(S.reshape(8, 1, 1, 1), (8, 1, 3, 3))),
        axis=1,
        block_size=8,
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_is_read_however_it_is_written(name: str) -> None:
    g, x = image()
    worst, share = off(ended(g, conv(g, x, WEIGHTS[name](g))), 0.15)
    assert worst <= 1.001
    assert share <= 0.002


def test_codes_of_2_bits_are_read() -> None:
    g, x = image(25)
    g.output(g.pair(conv(g, x, bits("uint2", 0, 3)(g)), 0.3, 110, "uint8", out="y"), (1, 8, 6, 6))
    assert all(row.on == "BPU" for row in check(g.model(), march="nash-e"))


def test_a_weight_that_two_layers_share_is_folded_for_both() -> None:
    g, x = image()
    w = quantized(g, "Clip")
    middle = g.pair(g.node("Relu", conv(g, x, w)), 0.05, 0, "uint8")
    assert off(ended(g, conv(g, middle, w)), 0.15)[0] <= 1.001


# --- products ---------------------------------------------------------------------------------------------


def block(data_type: str, low: int, high: int, block_size: int, zero: int | None = None) -> Weight:
    def make(g: Foreign) -> str:
        parts = 16 // block_size
        scale = g.constant(spread(12 * parts).reshape(parts, 12))
        zeros = [] if zero is None else [g.constant(np.full((parts, 12), zero), data_type)]
        q = g.constant(codes((16, 12), 0, low, high), data_type)
        return g.node("DequantizeLinear", q, scale, *zeros, axis=0, block_size=block_size)

    return make


def even_blocks(g: Foreign) -> str:
    scale = g.constant(np.full((4, 12), 0.02))
    return g.node("DequantizeLinear", g.constant(codes((16, 12)), "int8"), scale, axis=0, block_size=4)


def turned(g: Foreign) -> str:
    w = g.stored(codes((12, 16)), spread(12) * np.where(np.arange(12) % 2, -1, 1), axis=0)
    return g.node("Transpose", w, perm=[1, 0])


COLUMNS: dict[str, Weight] = {
    "one block": block("int8", -128, 127, 16),
    "one block with zero points": block("int8", -128, 127, 16, 2),
    "one block of uint4": block("uint4", 0, 15, 16, 8),
    "blocks that are alike": even_blocks,
    "negative scales, turned": turned,
}


@pytest.mark.parametrize("name", COLUMNS)
def test_the_weight_of_a_product_is_read_however_it_is_written(name: str) -> None:
    g, x = rows()
    assert off(ended(g, g.node("MatMul", x, COLUMNS[name](g)), 0.1, 100, (5, 12)), 0.1)[0] <= 1.001


@pytest.mark.parametrize("weight", [block("int8", -128, 127, 4), block("int4", -8, 7, 8)])
def test_a_weight_in_blocks_is_said_to_be_in_blocks(weight: Weight) -> None:
    g, x = rows()
    model = ended(g, g.node("MatMul", x, weight(g)), 0.1, 100, (5, 12))
    (row,) = (r for r in check(model, march="nash-e") if r.op == "MatMul")
    assert row.on == "CPU"
    assert "is quantized in blocks of" in row.reason
    assert row.fix == "quantize it per tensor, or per channel: one block over the whole axis"


# --- constants of other operators -------------------------------------------------------------------------


def relu6(g: Foreign, x: str) -> str:
    low, high = g.pair(g.constant(0), 1.0, 0, "uint8"), g.pair(g.constant(6), 6 / 255, 0, "uint8")
    return g.node("Clip", conv(g, x), low, high)


def power(g: Foreign, x: str) -> str:
    return g.node("Pow", g.node("Relu", x), g.pair(g.constant(2), 2 / 255, 0, "uint8"))


def layer_norm(g: Foreign, x: str) -> str:
    gain = g.pair(g.constant(spread(6, 1, 0.5, 1.5)), 1.5 / 127)
    return g.node("LayerNormalization", x, gain, g.pair(g.constant(normal((6,))), 3 / 127), axis=-1)


def batch_norm(g: Foreign, x: str) -> str:
    terms = (spread(8, 1, 0.5, 1.5), normal((8,)), normal((8,), 1), spread(8, 2, 0.5, 1.5))
    return g.node("BatchNormalization", conv(g, x), *(g.pair(g.constant(t), 3 / 127) for t in terms))


def bias(g: Foreign, x: str) -> str:
    return g.node("Conv", x, g.stored(W, S, axis=0), g.pair(g.constant(normal((8,))), 3 / 127), pads=[1] * 4)


def joined(g: Foreign, x: str) -> str:
    first = g.stored(codes((1, 3, 6, 6)), np.float32(0.013))
    last = g.stored(codes((1, 4, 6, 6), 1, 0, 255), np.float32(0.02), 100, "uint8")
    joint = g.node("Concat", first, g.node("Relu", x), last, g.constant(normal((1, 1, 6, 6))), axis=1)
    return g.node("Conv", g.pair(joint, 0.05), g.stored(codes((8, 16, 3, 3)), S, axis=0), pads=[1] * 4)


def joined_expanded(g: Foreign, x: str) -> str:
    token = g.node(
        "Expand", g.stored(codes((1, 1, 1, 6)), np.float32(0.013)), g.constant([1, 1, 6, 6], "int64")
    )
    joint = g.node("Concat", token, g.pair(conv(g, x), 0.1), axis=1)
    return g.node("Conv", g.pair(joint, 0.1), g.stored(codes((8, 9, 3, 3)), S, axis=0), pads=[1] * 4)


def added(g: Foreign, x: str) -> str:
    return g.node("Add", x, g.stored(codes((1, 8, 6, 6)), np.float32(-0.01), 5))


@pytest.mark.parametrize(
    "body",
    [relu6, power, layer_norm, batch_norm, bias, joined, joined_expanded, added],
    ids=lambda f: f.__name__,
)
def test_a_constant_of_an_operator_is_read_behind_a_pair_of_its_own(
    body: Callable[[Foreign, str], str],
) -> None:
    g, x = image()
    worst, share = off(ended(g, body(g, x)), 0.15)
    assert worst <= 1.001
    assert share <= 0.005


# --- clamps of codes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "dtype", "bounds"),
    [
        ("Clip", "int8", (-8, 7)),
        ("Clip", "uint8", (100, 140)),
        ("Clip", "int8", (-8,)),
        ("Relu", "int8", ()),
        ("Max", "int8", (-3,)),
        ("Min", "int8", (5,)),
    ],
)
@pytest.mark.parametrize("behind", ["input", "MaxPool"])
def test_a_clamp_of_codes_narrows_the_quantize(
    op: str, dtype: str, bounds: tuple[int, ...], behind: str
) -> None:
    g, x = image()
    terms = g.scaling(0.3, 3 if dtype == "int8" else 128, dtype)
    q = g.node("QuantizeLinear", "x" if behind == "input" else conv(g, x), *terms)
    if behind == "MaxPool":
        q = g.node("MaxPool", q, kernel_shape=[3, 3], pads=[1] * 4)
    clamped = g.node(op, q, *(g.constant(b, dtype) for b in bounds))
    model = ended(g, conv(g, g.node("DequantizeLinear", clamped, *terms)))
    assert off(model, 0.15)[0] <= 1.001


@pytest.mark.parametrize(("dtype", "zero"), [("int4", 0), ("uint4", 8)])
def test_activations_of_4_bits_are_clamped_codes(dtype: str, zero: int) -> None:
    g, x = image()
    middle = g.pair(conv(g, x), 0.6, zero, dtype)
    assert off(ended(g, conv(g, middle)), 0.15)[0] <= 1.001


@pytest.mark.parametrize("march", ["nash-e", "nash-p"])
def test_a_negative_scale_of_an_activation_is_the_complement_of_its_codes(march: str) -> None:
    g, x = image()
    middle = g.pair(conv(g, x), -0.1, 3)
    assert off(ended(g, conv(g, middle)), 0.15, march)[0] <= 1.001


def test_a_negative_scale_of_a_float_result_stays_negative() -> None:
    g, x = image()
    g.output(conv(g, x, g.stored(W, S * SIGNS, axis=0), g.constant(normal((8,))), out="y"), (1, 8, 6, 6))
    assert off(g.model(), 1e-4)[0] <= 1


# --- half floats ------------------------------------------------------------------------------------------


def half_model(*, cast: bool) -> ModelProto:
    """A layer with every float in float16: those of the model, or between Casts at its ends."""
    half: dict[str, Any] = {"real": np.float16}
    g, kind = Foreign(19), 1 if cast else 10
    x = g.input("x", (1, 8, 6, 6), kind)
    x = g.pair(g.node("Cast", x, to=10) if cast else x, 0.03, 128, "uint8", **half)
    y = conv(g, x, g.stored(W, S, axis=0, **half), g.constant(normal((8,)), np.float16))
    y = g.node("Clip", y, g.constant(-6, np.float16), g.constant(6, np.float16))
    y = g.pair(y, 0.125, 0, out="" if cast else "y", **half)
    if cast:
        g.node("Cast", y, to=1, out="y")
    g.output("y", (1, 8, 6, 6), kind)
    return g.model()


@pytest.mark.parametrize("cast", [False, True])
def test_a_graph_in_half_floats_runs_on_the_bpu(*, cast: bool) -> None:
    worst, share = off(half_model(cast=cast), 0.125)
    assert worst <= 1.001
    assert share <= 0.02


# --- operators of others ----------------------------------------------------------------------------------


def swirled() -> ModelProto:
    g, x = image(21, acme_ops=1)
    swirl = g.node("Swirl", g.pair(conv(g, x), 0.1), domain="acme.ops", angle=3)
    return ended(g, g.node("Relu", g.pair(swirl, 0.1)))


def test_an_operator_that_no_table_knows_is_listed_on_the_cpu() -> None:
    found = {row.op: row for row in check(swirled(), march="nash-e")}
    assert found["Conv"].on == "BPU"
    assert found["Swirl"].on == "CPU"
    assert "no table knows this operator of domain 'acme.ops'" in found["Swirl"].reason


def test_an_operator_that_no_table_knows_is_not_compiled() -> None:
    with pytest.raises(
        ModelError, match=r"node 'Swirl_\d+' \(Swirl\): domain must be one of .* not 'acme.ops'"
    ):
        build(swirled(), march="nash-e")


def test_one_zero_point_of_a_weight_holds_for_all_channels() -> None:
    g = Foreign(13)
    x, y = g.scaling(0.03, 128, "uint8"), g.scaling(0.15, 110, "uint8")
    q = g.node("QuantizeLinear", g.input("x", (1, 8, 6, 6)), *x)
    weight = (g.constant(W, "int8"), g.constant(S), g.constant(3, "int8"))
    q = g.node("QLinearConv", q, *x, *weight, *y, pads=[1] * 4)
    g.output(g.node("DequantizeLinear", q, *y, out="y"), (1, 8, 6, 6))
    assert off(g.model(), 0.15)[0] <= 1.001
