"""Zero points: for int8 tensors that lie to one side of 0, at no cost, and with less error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.compiler import check
from openbpu.quantization.onnx import Choice, output_cosines, quantize
from openbpu.quantization.onnx.engine import run_once
from openbpu.quantization.onnx.extents import Extent
from openbpu.quantization.onnx.shifts import shift_of
from quantization.float_models import Array, float_model, noise, pair_of

CONV = "Conv<pads=[1,1,1,1]>"
WEIGHTS: dict[str, Any] = {
    "w": noise(4, 4, 3, 3),
    "k": noise(16, 8),
    "k2": noise(8, 16),
    "g": np.ones(8, dtype=np.float32),
    "b": np.zeros(8, dtype=np.float32),
    "p": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "one": np.float32(1),
    "twice": np.array([1, 1, 2, 2], dtype=np.float32),
    "slope": noise(4, 1, 1),
    "axis": np.int64(1),
}


def image(nodes: str, out: str = "float[1,4,8,8] y") -> ModelProto:
    text = f"(float[1,4,8,8] x) => ({out}) {{ a = Relu(x) c = {CONV}(a, w) r = Relu(c) {nodes} }}"
    return float_model(text, {n: a for n, a in WEIGHTS.items() if n in text})


def unary(op: str) -> ModelProto:
    return image(f"s = {op}(r) y = {CONV}(s, w)")


def binary(op: str) -> ModelProto:
    return image(f"q = Sigmoid(c) s = {op}(r, q) y = {CONV}(s, w)")


def reduced(op: str, shape: str) -> ModelProto:
    return image(f"s = {op}(r) y = Relu(s)", f"float[{shape}] y")


UNARY = ("Sigmoid", "Exp", "Sqrt", "Softplus", "HardSwish", "Neg", "Abs", "Tanh", "Softmax")
POOLS = ("MaxPool<kernel_shape=[3,3],pads=[1,1,1,1]>", "AveragePool<kernel_shape=[3,3],pads=[1,1,1,1]>")
BINARY = ("Add", "Mul", "Sub", "Div", "Max", "Min")
MODELS = {
    **{op: unary(op) for op in (*UNARY, *POOLS)},
    **{op: binary(op) for op in BINARY},
    "mean": reduced("GlobalAveragePool", "1,4,1,1"),
    "largest": reduced("ReduceMax<axes=[1]>", "1,1,8,8"),
    "length": reduced("ReduceL2<axes=[1]>", "1,1,8,8"),
    "concat": image(f"q = Sigmoid(c) t = Concat<axis=2>(r, q) y = {CONV}(t, w)", "float[1,4,16,8] y"),
    "resize": image(f'q = Resize<mode="linear">(r, , twice) y = {CONV}(q, w)', "float[1,4,16,16] y"),
    "pad": image("q = Pad(r, p) y = Conv(q, w)"),
    "pad of ones": image("q = Pad(r, p, one) y = Conv(q, w)"),
    "transposed": image("q = ConvTranspose(r, w) y = Sigmoid(q)", "float[1,4,10,10] y"),
    "prelu": image(f"q = PRelu(r, slope) y = {CONV}(q, w)"),
    "where": image(f"q = Sigmoid(c) t = Greater(r, q) s = Where(t, r, q) y = {CONV}(s, w)"),
    "running sum": image(f"q = CumSum(r, axis) y = {CONV}(q, w)"),
    "place": image("y = ArgMax<axis=1>(r)", "int64[1,1,8,8] y"),
    "attention": float_model(
        """(float[1,8,16] x) => (float[1,8,8] y) {
            q = MatMul(x, k) m = MatMul(x, k) v = Relu(m) t = Transpose<perm=[0,2,1]>(v)
            s = MatMul(q, t) p = Softmax(s) o = MatMul(p, v) y = Relu(o) }""",
        {"k": WEIGHTS["k"]},
    ),
    "norm": float_model(
        """(float[1,8,16] x) => (float[1,8,16] y) {
            q = MatMul(x, k) r = Relu(q) n = LayerNormalization(r, g, b) y = MatMul(n, k2) }""",
        {n: WEIGHTS[n] for n in ("k", "g", "b", "k2")},
    ),
}


def data(model: ModelProto) -> list[dict[str, Array]]:
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    return [{"x": np.tanh(noise(*shape, seed=n))} for n in range(3)]


@pytest.mark.parametrize("name", MODELS)
def test_zero_points_change_no_placement_and_load_in_onnx_runtime(name: str) -> None:
    model, found = MODELS[name], list[Choice]()
    options: Any = {"tail": DType.INT8}
    plain = quantize(model, data(model), **options)
    made = quantize(model, data(model), asymmetric=True, told=found.append, **options)
    assert any(r.zero_point for r in found[0].ranges.values())
    placed, wanted = ([(row.op, row.on) for row in check(m, march="nash-e")] for m in (made, plain))
    assert placed == wanted
    run_once(made, data(model)[0], ["y"])


def test_the_codes_are_for_the_side_that_has_values() -> None:
    model = image(
        f"t = Transpose<perm=[0,1,3,2]>(c) d = LeakyRelu<alpha=0.1>(t) s = Add(r, d) y = {CONV}(s, w)"
    )
    found: list[Choice] = []
    made = quantize(model, data(model), asymmetric=True, told=found.append)
    ranges = found[0].ranges
    for name in ("a", "r"):
        scale, zero = pair_of(made, name)
        assert zero == -128
        assert scale == np.float32(ranges[name].range / 255)
    scale, zero = pair_of(made, "d")
    assert -128 < zero < -80
    assert scale * (127 - int(zero)) >= ranges["d"].largest * 0.99
    assert pair_of(made, "x")[1] == 0  # of both signs
    symmetric = quantize(model, data(model))
    assert not any(zero.any() for zero in (pair_of(symmetric, name)[1] for name in "axrd"))
    close = [1 - output_cosines(model, m, data(model))["y"] for m in (made, symmetric)]
    assert close[0] < 0.7 * close[1]


def test_int16_tensors_and_even_ones_have_none() -> None:
    model = image(f"y = {CONV}(r, w)")
    found: list[Choice] = []
    options: Any = {"activation": DType.INT16}
    made = quantize(model, data(model), asymmetric=True, told=found.append, **options)
    assert made == quantize(model, data(model), **options)
    assert not any(r.zero_point for r in found[0].ranges.values())


def test_a_config_may_ask_for_them() -> None:
    model = image(f"y = {CONV}(r, w)")
    config = {"model_config": {"activation": {"asymmetric": [True]}}}
    assert quantize(model, data(model), config=config) == quantize(model, data(model), asymmetric=True)


@pytest.mark.parametrize(
    ("top", "low", "high", "zero", "step"),
    [
        (6.0, 0.0, 6.0, -128, 6 / 255),
        (6.0, 1.0, 6.0, -128, 6 / 255),  # 0 is always a code
        (3.0, 0.0, 6.0, -128, 3 / 255),  # clipped
        (6.0, -6.0, 0.0, 127, 6 / 255),
        (6.0, -6.0, 2.0, 63, 8 / 255),
    ],
)
def test_a_shift_covers_what_was_seen(top: float, low: float, high: float, zero: int, step: float) -> None:
    shift = shift_of(top, Extent(low, high))
    assert shift is not None
    assert shift.zero == zero
    assert float(shift.scale) == pytest.approx(step, rel=1e-6)


@pytest.mark.parametrize(("low", "high"), [(-6.0, 6.0), (-5.5, 6.0), (0.0, 0.0)])
def test_what_gains_little_is_not_shifted(low: float, high: float) -> None:
    assert shift_of(6.0, Extent(low, high)) is None
