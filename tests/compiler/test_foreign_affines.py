"""Constants behind a convolution or product, without a Quantize between: its factor, its bias, its clamp."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.foreign import Array, Foreign, codes, conv, ended, image, normal, off, rows, spread, stored_rows

Body = Callable[[Foreign, str], str]
GAIN = spread(8, 1, 0.5, 1.5).reshape(1, 8, 1, 1)
SUM = normal((1, 8, 1, 1), 2)
SIGNS = np.where(np.arange(8) % 2, -1, 1).reshape(1, 8, 1, 1)


def behind_conv(op: str, constant: Array | float, *, first: bool = False) -> Body:
    """Conv → op with a constant, or the constant first."""

    def body(g: Foreign, x: str) -> str:
        pair = [conv(g, x), g.constant(constant)]
        return g.node(op, *(pair[::-1] if first else pair))

    return body


def scaled_and_shifted(g: Foreign, x: str) -> str:
    product = g.node("Mul", conv(g, x), g.constant(GAIN))
    return g.node("Relu", g.node("Add", product, g.constant(SUM)))


def normalised(g: Foreign, x: str) -> str:
    terms = [g.constant(spread(8, seed, 0.5, 1.5)) for seed in range(4)]
    return g.node("BatchNormalization", g.node("Div", conv(g, x), g.constant(GAIN)), *terms)


def hard_sigmoid(g: Foreign, x: str) -> str:
    sum_ = g.node("Add", conv(g, x), g.constant(3))
    return g.node("Div", g.node("Clip", sum_, g.constant(0), g.constant(6)), g.constant(0.6))


def clamped_and_turned(g: Foreign, x: str) -> str:
    negative = g.node("Mul", g.node("Relu", conv(g, x)), g.constant(-0.5))
    return g.node("Add", negative, g.constant(1))


def with_residual(g: Foreign, x: str) -> str:
    return g.node("Relu", g.node("Add", x, g.node("Mul", conv(g, x), g.constant(GAIN / 20))))


def deconvolution(g: Foreign, x: str) -> str:
    y = g.node("ConvTranspose", x, g.stored(codes((8, 8, 3, 3)), spread(8), axis=1), pads=[1] * 4)
    return g.node("Sub", g.constant(SUM), y)


IMAGES: dict[str, Body] = {
    "Mul": behind_conv("Mul", GAIN),
    "Mul by signs": behind_conv("Mul", GAIN * SIGNS),
    "Mul by 0 in places": behind_conv("Mul", GAIN * (SIGNS > 0)),
    "Mul of a scalar": behind_conv("Mul", 0.37, first=True),
    "Add": behind_conv("Add", SUM[0]),
    "Add of much": behind_conv("Add", 1e4 * SUM),
    "Sub": behind_conv("Sub", SUM),
    "Sub from": behind_conv("Sub", SUM, first=True),
    "Div": behind_conv("Div", GAIN),
    "Neg": lambda g, x: g.node("Neg", conv(g, x)),
    "codes": lambda g, x: g.node("Mul", conv(g, x), g.pair(g.constant(GAIN), 0.0125)),
    "Mul, Add, Relu": scaled_and_shifted,
    "Div, BatchNormalization": normalised,
    "Add, Clip, Div": hard_sigmoid,
    "Relu, Mul, Add": clamped_and_turned,
    "Mul, Add of a tensor": with_residual,
    "ConvTranspose": deconvolution,
}


@pytest.mark.parametrize("name", IMAGES)
def test_constants_behind_a_convolution_are_its_factor_and_bias(name: str) -> None:
    g, x = image()
    worst, share = off(ended(g, IMAGES[name](g, x)), 0.15)
    assert worst <= 1.001
    assert share <= 0.004  # ties


def product(g: Foreign, x: str) -> str:
    return g.node("MatMul", x, stored_rows(g))


def attention(g: Foreign, x: str) -> str:
    return g.node("MatMul", x, g.node("Transpose", x, perm=[1, 0]))


ROWS: dict[str, tuple[Body, int]] = {
    "Mul": (lambda g, x: g.node("Mul", product(g, x), g.constant(spread(12, 1, 0.5, 1.5))), 12),
    "Add, Mul": (
        lambda g, x: g.node("Mul", g.node("Add", product(g, x), g.constant(normal((12,)))), g.constant(0.3)),
        12,
    ),
    "Gemm": (
        lambda g, x: g.node("Neg", g.node("Gemm", x, stored_rows(g), g.constant(normal((12,))), alpha=0.5)),
        12,
    ),
    "computed": (
        lambda g, x: g.node("Add", g.node("Div", attention(g, x), g.constant(4)), g.constant(-3)),
        5,
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_constants_behind_a_product_are_its_factor_and_bias(name: str) -> None:
    body, columns = ROWS[name]
    g, x = rows()
    assert off(ended(g, body(g, x), 0.1, 100, (5, columns)), 0.1)[0] <= 1.001


def test_constants_per_column_of_a_computed_product_need_a_rounding() -> None:
    g, x = rows()
    y = g.node("Mul", attention(g, x), g.constant(spread(5, 1, 0.5, 1.5)))
    assert off(ended(g, y, 0.1, 100, (5, 5)), 0.1)[0] <= 1.001
