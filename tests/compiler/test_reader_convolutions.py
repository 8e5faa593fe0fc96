"""Convolutions whose parts contradict each other: onnx lets them pass, the reader does not."""

from __future__ import annotations

import pytest

from compiler.reading import model
from openbpu.arch.errors import ModelError
from openbpu.compiler.reader import read_model

GOOD = {
    "plain": "y = Conv (x, w)",
    "bias": "y = Conv <kernel_shape = [3, 3]> (x, w, b)",
    "groups": "y = Conv <group = 2> (x, half)",
    "transposed": "y = ConvTranspose <group = 2> (x, half_t, b)",
}
BAD = {
    "y = Conv (x, w, b3)": r"shape of its bias must be \(6,\), not \(3,\)",
    "y = Conv (x5, w)": r"channels of its input must be 4 \(weight \(6, 4, 3, 3\), group 1\), not 5",
    "y = Conv <group = 4> (x, w)": r"group must be a divisor of 6 \(axis 0 of its weight\), not 4",
    "y = Conv <group = 0> (x, w)": "group must be a divisor of 6",
    "y = Conv <group = 2> (x, w)": "channels of its input must be 8 .*, not 4",
    "y = Conv <kernel_shape = [1, 3]> (x, w)": r"kernel_shape must be \(3, 3\) as its weight, not \(1, 3\)",
    "y = ConvTranspose (x5, half_t)": "channels of its input must be 4",
    "y = ConvTranspose (x, half_t, b)": r"shape of its bias must be \(3,\), not \(6,\)",
    "y = QLinearConv (q, s, z, w8, s, z, s, z)": "channels of its input must be 3",
    "y = ConvInteger (q, w8)": "channels of its input must be 3",
}
INPUTS = """float[1,4,8,8] x, float[1,5,8,8] x5, float[6,4,3,3] w, float[6,2,3,3] half, float[4,3,3,3] half_t,
    float[6] b, float[3] b3, int8[1,4,8,8] q, int8[6,3,3,3] w8, float s, int8 z"""


def convolution(text: str) -> str:
    kind = "int8" if "QLinear" in text else "int32" if "Integer" in text else "float"
    return f"g ({INPUTS}) => ({kind}[N,M,H,W] y) {{ {text} }}"


@pytest.mark.parametrize("name", GOOD)
def test_consistent_convolution_is_read(name: str) -> None:
    assert read_model(model(convolution(GOOD[name]))).values["y"].shape is not None


@pytest.mark.parametrize("text", BAD)
def test_inconsistent_convolution_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match=rf"\(\w*Conv\w*\): {BAD[text]}.*; export the model again"):
        read_model(model(convolution(text)))
