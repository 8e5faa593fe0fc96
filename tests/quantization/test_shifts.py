"""Zero points: for int8 tensors that lie to one side of 0, at no cost, and with less error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.compiler import check
from openbpu.quantization.onnx import Choice, mixture, output_cosines, quantize
from openbpu.quantization.onnx.engine import run_once
from openbpu.quantization.onnx.extents import Extent
from openbpu.quantization.onnx.mixture import best_methods
from openbpu.quantization.onnx.shifts import MANY, shift_of
from quantization.float_models import Array, constant, float_model, noise, pair_of

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
    plain = quantize(model, data(model), asymmetric=False, **options)
    made = quantize(model, data(model), told=found.append, **options)
    assert any(r.zero_point for r in found[0].ranges.values())
    placed, wanted = ([(row.op, row.on) for row in check(m, march="nash-e")] for m in (made, plain))
    assert placed == wanted
    run_once(made, data(model)[0], ["y"])


def test_the_codes_are_for_the_side_that_has_values() -> None:
    model = image(
        f"t = Transpose<perm=[0,1,3,2]>(c) d = LeakyRelu<alpha=0.1>(t) s = Add(r, d) y = {CONV}(s, w)"
    )
    found: list[Choice] = []
    made = quantize(model, data(model), told=found.append)
    ranges = found[0].ranges
    for name in ("a", "r"):
        scale, zero = pair_of(made, name)
        assert zero == -128
        assert scale == np.float32(ranges[name].range / 255)
    scale, zero = pair_of(made, "d")
    assert -128 < zero < -80
    assert scale * (127 - int(zero)) >= ranges["d"].largest * 0.99
    assert pair_of(made, "x")[1] == 0  # of both signs
    symmetric = quantize(model, data(model), asymmetric=False)
    assert not any(zero.any() for zero in (pair_of(symmetric, name)[1] for name in "axrd"))
    close = [1 - output_cosines(model, m, data(model))["y"] for m in (made, symmetric)]
    assert close[0] < 0.7 * close[1]


def test_int16_tensors_and_even_ones_have_none() -> None:
    model = image(f"y = {CONV}(r, w)")
    found: list[Choice] = []
    options: Any = {"activation": DType.INT16}
    made = quantize(model, data(model), told=found.append, **options)
    assert made == quantize(model, data(model), asymmetric=False, **options)
    assert not any(r.zero_point for r in found[0].ranges.values())


@pytest.mark.parametrize(
    ("given", "option", "zeros"),
    [
        (None, None, True),
        (True, None, True),
        ([True, False], None, True),  # each tensor takes what suits it
        (False, None, False),
        ([False], None, False),
        (False, True, True),  # what the caller says wins
        (True, False, False),
    ],
)
def test_a_config_may_say_so_too(given: Any, option: bool | None, zeros: bool) -> None:
    model = image(f"y = {CONV}(r, w)")
    config = {"model_config": {"activation": {"asymmetric": given}}} if given is not None else {}
    made = quantize(model, data(model), config=config, asymmetric=option)
    assert made == quantize(model, data(model), asymmetric=zeros)
    assert bool(pair_of(made, "r")[1]) == zeros


@pytest.mark.parametrize(
    ("top", "low", "high", "zero", "step"),
    [
        (6.0, 0.0, 6.0, -128, 6 / 255),
        (6.0, 1.0, 6.0, -128, 6 / 255),  # 0 is always a code
        (3.0, 0.0, 6.0, -128, 3 / 255),  # clipped
        (6.0, -6.0, 0.0, 127, 6 / 255),
        (6.0, -6.0, 2.0, 63, 6 / 191),  # 63.75 codes for the smaller side: 64
    ],
)
def test_a_shift_covers_what_was_seen(top: float, low: float, high: float, zero: int, step: float) -> None:
    shift = shift_of(top, Extent(low, high, count=MANY))
    assert shift is not None
    assert shift.zero == zero
    assert float(shift.scale) == pytest.approx(step, rel=1e-6)


@pytest.mark.parametrize(("low", "high"), [(-6.0, 6.0), (-5.5, 6.0), (0.0, 0.0)])
def test_what_gains_little_is_not_shifted(low: float, high: float) -> None:
    assert shift_of(6.0, Extent(low, high, count=MANY)) is None


def test_of_few_values_the_smaller_side_gets_more() -> None:
    few, many = (shift_of(6.0, Extent(-2.0, 6.0, count=n)) for n in (MANY - 1, MANY))
    assert few is not None
    assert many is not None
    assert (few.zero, many.zero) == (-43, -64)
    assert float(few.scale) == pytest.approx(9 / 255)
    assert shift_of(6.0, Extent(-4.5, 6.0, count=MANY)) is not None
    assert shift_of(6.0, Extent(-4.5, 6.0, count=MANY - 1)) is None


def test_ranges_too_small_for_a_scale_have_no_zero_point() -> None:
    assert shift_of(1e-20, Extent(0.0, 1e-20, count=MANY)) is None


def test_a_divisor_that_is_rounded_once_more_has_its_zero_point_there() -> None:
    """In int16 the divisor's pair is even; the codes of int8 that the BPU divides by are for its one side."""
    model = image(f"q = Sigmoid(a) d = Div(r, q) s = Add(d, q) y = {CONV}(s, w)")
    made = quantize(model, data(model), activation=DType.INT16)
    assert pair_of(made, "q")[1] == 0
    assert constant(made, "q_int8_zero_point") == -128
    assert float(constant(made, "q_int8_scale")) == pytest.approx(
        float(pair_of(made, "q")[0]) * 32767.5 / 255, rel=1e-4
    )
    assert all(row.on == "BPU" for row in check(made, march="nash-e"))


@pytest.mark.parametrize("method", ["mse", "kl"])
def test_ranges_are_searched_on_the_grid_that_there_will_be(method: Any) -> None:
    """A range that suits 128 steps is narrower than one for 256: outputs would be clipped for nothing."""
    rng = np.random.default_rng(1)
    x = np.abs(rng.standard_normal((4, 1, 4, 64, 64)) ** 3).astype(np.float32)
    text = f"(float[1,4,64,64] x) => (float[1,4,64,64] y) {{ a = Abs(x) y = {CONV}(a, w) }}"
    model = float_model(text, {"w": WEIGHTS["w"]})
    found: list[Choice] = []
    for asymmetric in (True, False):
        quantize(model, {"x": x}, method=method, asymmetric=asymmetric, told=found.append)
    one_sided, even = (choice.ranges["a"] for choice in found)
    assert one_sided.zero_point == -128
    assert one_sided.range > even.range

    def error(top: float) -> float:
        step = top / 255
        return float(np.square(np.clip(np.rint(x / step), 0, 255) * step - x).mean())

    if method == "mse":
        assert error(one_sided.range) < error(even.range)
        assert error(one_sided.range) <= 1.001 * min(
            error(r * one_sided.largest / 100) for r in range(1, 101)
        )


@pytest.mark.parametrize(("asymmetric", "wanted"), [(True, "max"), (False, "percentile")])
def test_a_mixture_judges_tensors_with_the_zero_points_they_will_have(
    asymmetric: bool, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole numbers in 0 … 255 are codes with a zero point; without one it is better to clip the largest."""
    x = np.random.default_rng(2).integers(0, 101, size=(2, 1, 4, 128, 128)).astype(np.float32)
    x[0, 0, 0, 0, 0] = 255
    model = float_model(
        f"(float[1,4,128,128] x) => (float[1,4,128,128] y) {{ a = Abs(x) y = {CONV}(a, w) }}",
        {"w": WEIGHTS["w"]},
    )
    chosen: list[str] = []

    def watched(*arguments: Any) -> dict[str, str]:
        found = best_methods(*arguments)
        chosen.append(found["a"])
        return found

    monkeypatch.setattr(mixture, "best_methods", watched)
    config = {"model_config": {"activation": {"calibration_type": ["max", "percentile"]}}}
    quantize(model, {"x": x}, config=config, asymmetric=asymmetric)
    assert chosen == [wanted]


def test_swallowed_operands_are_told_in_the_steps_that_there_are() -> None:
    model = float_model(
        "(float[1,4] x, float[1,4] b) => (float[1,8] y)"
        "{ p = Relu(x) q = Relu(b) c = Concat<axis=1>(p, q) y = Sigmoid(c) }"
    )
    feeds = {"x": np.full((2, 4), 100, np.float32), "b": np.full((2, 4), 2, np.float32)}
    for asymmetric, steps in ((True, "5.1 steps"), (False, "2.5 steps")):
        found: list[Choice] = []
        quantize(model, feeds, tail=DType.INT8, asymmetric=asymmetric, told=found.append)
        (text,) = (f.text for f in found[0].findings if f.kind == "swallowed")
        assert steps in text


@pytest.mark.parametrize("asymmetric", [None, True])
def test_inputs_have_a_zero_point_where_that_is_asked_for(asymmetric: bool | None) -> None:
    """Whoever writes codes into one, or gives its scale to a camera, may reckon with nothing else."""
    model = image(f"y = {CONV}(r, w)")
    feeds = [{"x": np.abs(feed["x"])} for feed in data(model)]
    scale, zero = pair_of(quantize(model, feeds, asymmetric=asymmetric), "x")
    largest = max(feed["x"].max() for feed in feeds)
    assert float(scale) == pytest.approx(largest / (255 if asymmetric else 127.5))
    assert int(zero) == (-128 if asymmetric else 0)
