"""Float32 tensors become codes by a float32 division, wherever that happens."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from compiler.written import model_of
from openbpu.compiler import compile as compile_model
from openbpu.runtime import Session
from witness import ort

Array = np.ndarray[Any, Any]
PIXEL = np.float32(1 / 127.5)
MARCHES = ("nash-e", "nash-p", "bayes-e")


def bordered(shape: list[int], scale: Array, zero: Array, *moves: onnx.NodeProto) -> onnx.ModelProto:
    """x → moves (to m) → Q → DQ → Relu → Q → DQ → y."""
    start = moves[-1].output[0] if moves else "x"
    pairs = [(start, "q", "f"), ("r", "p", "y")]
    ends = [
        (
            helper.make_node("QuantizeLinear", [a, "s", "z"], [b]),
            helper.make_node("DequantizeLinear", [b, "s", "z"], [c]),
        )
        for a, b, c in pairs
    ]
    nodes = [*moves, *ends[0], helper.make_node("Relu", ["f"], ["r"]), *ends[1]]
    return model_of(nodes, shape, {"y": None}, {"s": scale, "z": zero}, 21, 10)


def values(
    model: onnx.ModelProto, x: Array, march: str = "nash-e", mode: Any = "fast", **options: Any
) -> Array:
    (y,) = Session(compile_model(model, march=march, **options), mode=mode).run({"x": x}).outputs.values()
    return y


def expected(model: onnx.ModelProto, x: Array) -> Array:
    (y,) = ort.run(model, {"x": x}).values()
    return y


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_an_image_in_0_to_1_has_the_codes_of_a_float32_division(march: str, mode: str) -> None:
    x = np.arange(256, dtype=np.float32)[None] / np.float32(255)
    model = bordered([1, 256], np.array(PIXEL), np.array(0, np.int8))
    right = np.minimum(np.rint(x / PIXEL), 127).astype(np.float32) * PIXEL
    np.testing.assert_array_equal(values(model, x, march, mode), right)


@pytest.mark.parametrize(
    ("kind", "zero"), [(np.int8, -3), (np.uint8, 128), (np.int16, 0), (np.uint16, 40000)]
)
def test_no_code_differs_from_onnx_runtime(kind: Any, zero: int) -> None:
    """Half of the values are (code + 1/2) · scale: as near to a tie as float32 has them."""
    rng, info = np.random.default_rng(0), np.iinfo(kind)
    for _ in range(4):
        scale = np.float32(rng.uniform(0.5, 2) * 2.0 ** rng.integers(-20, 4))
        codes = rng.integers(info.min - zero, info.max - zero + 1, (1, 2048))
        ties = (codes + 0.5).astype(np.float32) * scale
        x = np.concatenate([ties, (codes + rng.uniform(-1, 1, codes.shape)).astype(np.float32) * scale], 1)
        model = bordered([1, 4096], np.array(scale), np.array(zero, kind))
        wanted = expected(model, x)
        for march in ("nash-e", "bayes-e"):
            np.testing.assert_array_equal(values(model, x, march), wanted)
        np.testing.assert_array_equal(values(model, x, mode="exact"), wanted)


@pytest.mark.parametrize("scale", [1e-42, 1e-38, 1.0, 3e38])
def test_quotients_that_float32_cannot_hold_saturate(scale: float) -> None:
    x = np.array([[3e38, -3e38, 1.0, -1.0, 1e-40, -1e-45, 0.0]], np.float32)
    model = bordered([1, 7], np.array(scale, np.float32), np.array(0, np.int8))
    for mode in ("fast", "exact"):
        np.testing.assert_array_equal(values(model, x, mode=mode), expected(model, x))


def test_what_moves_in_front_of_a_quantize_changes_no_code() -> None:
    x = np.arange(256, dtype=np.float32).reshape(16, 16) / np.float32(255)
    move = helper.make_node("Transpose", ["x"], ["m"])
    model = bordered([16, 16], np.array(PIXEL), np.array(0, np.int8), move)
    np.testing.assert_array_equal(values(model, x), expected(model, x))


def test_a_constant_behind_a_quantize_is_divided_in_float32() -> None:
    k = np.arange(256, dtype=np.float32)[None] / np.float32(255)
    pair = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xf"]),
        helper.make_node("QuantizeLinear", ["k", "s", "z"], ["kq"]),
        helper.make_node("DequantizeLinear", ["kq", "s", "z"], ["kf"]),
        helper.make_node("Add", ["xf", "kf"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "t", "z"], ["aq"]),
        helper.make_node("DequantizeLinear", ["aq", "t", "z"], ["y"]),
    ]
    constants = {"k": k, "s": np.array(PIXEL), "t": np.array(PIXEL), "z": np.array(0, np.int8)}
    model = model_of(pair, [1, 256], {"y": None}, constants, 21, 10)
    x = np.full((1, 256), -PIXEL, np.float32)
    np.testing.assert_array_equal(values(model, x), expected(model, x))
