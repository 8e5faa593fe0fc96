"""Asymmetric weights of 8 bits beside int16 activations, and scales per channel where channels stay apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto

from compiler.foreign import Foreign, codes, conv, ended, image, off, on_cpu, spread
from openbpu.compiler import check

S = spread(8)


def wide_image() -> tuple[Foreign, str]:
    g = Foreign(21)
    return g, g.pair(g.input("x", (1, 8, 6, 6)), 0.0002, 32768, "uint16")


def finished(g: Foreign, y: str, shape: tuple[int, ...] = (1, 8, 6, 6)) -> ModelProto:
    g.output(g.pair(y, 0.001, 30000, "uint16", out="y"), shape)
    return g.model()


def weighted(g: Foreign, shape: tuple[int, ...], zero: object, axis: int | None = 0) -> str:
    attrs = {} if axis is None else {"axis": axis}
    scale = np.float32(0.01) if axis is None else spread(shape[axis])
    return g.stored(codes(shape, 0, 0, 255), scale, zero, "uint8", **attrs)


PRODUCTS: dict[str, Callable[[Foreign, str], tuple[str, tuple[int, ...]]]] = {
    "Conv": lambda g, x: (conv(g, x, weighted(g, (8, 8, 3, 3), 130)), (1, 8, 6, 6)),
    "Conv per tensor": lambda g, x: (conv(g, x, weighted(g, (8, 8, 3, 3), 99, None)), (1, 8, 6, 6)),
    "Conv of zero points": lambda g, x: (
        conv(g, x, weighted(g, (8, 8, 3, 3), np.array([0, 255, 128, 100, 150, 7, 200, 127]))),
        (1, 8, 6, 6),
    ),
    "Conv of what is not negative": lambda g, x: (conv(g, x, weighted(g, (8, 8, 3, 3), 0)), (1, 8, 6, 6)),
    "groups": lambda g, x: (conv(g, x, weighted(g, (8, 4, 3, 3), 140), group=2), (1, 8, 6, 6)),
    "depthwise": lambda g, x: (conv(g, x, weighted(g, (8, 1, 3, 3), 140), group=8), (1, 8, 6, 6)),
    "MatMul": lambda g, x: (g.node("MatMul", x, weighted(g, (6, 12), 130, 1)), (1, 8, 6, 12)),
    "Gemm": lambda g, x: (
        g.node(
            "Gemm",
            g.node("Reshape", x, g.constant([36, 8], "int64")),
            weighted(g, (12, 8), 120),
            transB=1,
        ),
        (36, 12),
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_an_asymmetric_weight_beside_int16_is_a_sum_of_two(name: str) -> None:
    g, x = wide_image()
    y, shape = PRODUCTS[name](g, x)
    assert off(finished(g, y, shape), 0.001)[0] <= 1.001


def test_a_march_that_has_the_pair_keeps_the_weight() -> None:
    g, x = image()
    y = conv(g, x, weighted(g, (8, 8, 3, 3), 130))
    model = ended(g, y)
    assert off(model, 0.15)[0] <= 1.001
    assert on_cpu(check(model, march="nash-p")) == []


# --- scales per channel -----------------------------------------------------------------------------------


def depthwise(g: Foreign, x: str, outputs: int = 8) -> str:
    return conv(g, x, g.stored(codes((outputs, 1, 3, 3)), spread(outputs), axis=0), group=8)


@pytest.mark.parametrize("behind", ["input", "Conv", "Relu"])
def test_scales_per_channel_in_front_of_a_depthwise_convolution_are_factors(behind: str) -> None:
    g, x = image()
    y = "x" if behind == "input" else conv(g, x)
    y = g.node("Relu", y) if behind == "Relu" else y
    y = g.pair(y, spread(8, 0, 0.02, 0.1), 128, "uint8", axis=1)
    assert off(ended(g, depthwise(g, y)), 0.15)[0] <= 1.001


def test_scales_per_channel_and_two_outputs_for_each_are_factors() -> None:
    g, x = image()
    y = g.pair(conv(g, x), spread(8, 0, 0.02, 0.1), 3, "int8", axis=1)
    assert off(ended(g, depthwise(g, y, 16), shape=(1, 16, 6, 6)), 0.15)[0] <= 1.001


def test_scales_per_channel_in_front_of_a_dense_convolution_are_refused() -> None:
    g, x = image()
    y = g.pair(conv(g, x), spread(8, 0, 0.02, 0.1), 0, "int8", axis=1)
    found = on_cpu(check(ended(g, conv(g, y)), march="nash-e"))
    assert any("is quantized per channel" in text for text in found)


def test_a_weight_on_the_left_has_scales_per_row() -> None:
    g, x = image()
    y = g.node("MatMul", g.stored(codes((12, 6)), spread(12), axis=0), x)
    assert off(ended(g, y, shape=(1, 8, 12, 6)), 0.15)[0] <= 1.001
