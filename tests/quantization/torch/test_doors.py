"""One criterion, one range: `quantize`, the observers and the calibrators of the low level agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch")

from openbpu.arch.errors import QuantizationError  # noqa: E402
from openbpu.quantization import torch as bpu  # noqa: E402
from openbpu.quantization.onnx import quantize  # noqa: E402
from openbpu.quantization.torch.lowlevel.calibrators import HistogramCalibrator, MaxCalibrator  # noqa: E402

METHODS = {
    "kl": (bpu.KLObserver, "entropy"),
    "mse": (bpu.MSEObserver, "mse"),
    "percentile": (bpu.PercentileObserver, "percentile"),
}


def onnx_range(x: np.ndarray[Any, Any], method: Any) -> float:
    """The int8 range of the input of a product, calibrated with a sample per row of x."""
    text = f"""<ir_version: 10, opset_import: ["" : 21]>
    g (float[1,{x.shape[1]}] x) => (float[1,2] y) {{ y = MatMul (x, w) }}"""
    model = onnx.parser.parse_model(text)
    weight = np.random.default_rng(1).normal(size=(x.shape[1], 2)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    made = quantize(model, {"x": x[:, np.newaxis]}, method=method)
    scale = next(n.input[1] for n in made.graph.node if n.input[0] == "x")
    constants = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    return float(constants[scale]) * 127.5


def observed_range(batches: list[Any], observer: Any) -> float:
    made = observer(dtype=bpu.qint8)
    for batch in batches:
        made(batch)
    return float(made.calculate_qparams()[0]) * 127.5


def calibrated_range(batches: list[Any], method: str) -> float:
    made = HistogramCalibrator()
    for batch in batches:
        made.collect(batch)
    return float(made.compute_amax(method))


def data(kind: str) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    x = {
        "relu": np.maximum(rng.normal(size=(12, 512)), 0),
        "laplace": rng.laplace(size=(12, 512)),
        "growing": rng.laplace(size=(12, 512)) * np.linspace(0.05, 3, 12)[:, np.newaxis],
        "zeros first": rng.normal(size=(12, 512)) * (np.arange(12) > 5)[:, np.newaxis],
        "tiny": rng.normal(size=(2, 3)),
        "constant": np.full((2, 8), 0.7),
    }[kind]
    return x.astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["relu", "laplace", "growing", "zeros first", "tiny", "constant"])
def test_three_doors_give_one_range_however_the_data_are_batched(kind: str, method: str) -> None:
    observer, name = METHODS[method]
    x = data(kind)
    whole, rows = [torch.from_numpy(x)], list(torch.from_numpy(x))
    one = onnx_range(x, method)
    assert observed_range(whole, observer) == pytest.approx(one, rel=1e-6)
    assert observed_range(rows, observer) == pytest.approx(one, rel=1e-6)
    assert calibrated_range(whole, name) == pytest.approx(one, rel=1e-6)
    assert calibrated_range(rows, name) == calibrated_range(whole, name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("method", METHODS)
def test_other_float_types_are_their_values_in_float32(method: str, dtype: Any) -> None:
    observer, name = METHODS[method]
    batches = [v.to(dtype) for v in torch.from_numpy(data("laplace"))]
    plain = [v.float() for v in batches]
    assert observed_range(batches, observer) == observed_range(plain, observer)
    assert calibrated_range(batches, name) == calibrated_range(plain, name)
    largest = MaxCalibrator(track_amax=True)
    for batch in batches:
        largest.collect(batch)
    assert float(largest.compute_amax()) == float(torch.stack(plain).abs().max())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_door_takes_values_that_are_not_finite(bad: float) -> None:
    x = torch.tensor([0.5, bad, 1.0])
    makes = [b for b in vars(bpu).values() if isinstance(b, type) and issubclass(b, bpu.MSEObserver.__base__)]
    assert len(makes) >= 5
    for made in (*makes, bpu.MinMaxObserver, bpu.MovingAverageMinMaxObserver):
        with pytest.raises(QuantizationError, match="must be finite"):
            made()(x)
    for calibrator in (HistogramCalibrator(), MaxCalibrator(), MaxCalibrator(axis=0)):
        with pytest.raises(QuantizationError, match="must be finite"):
            calibrator.collect(x)


def test_large_finite_values_are_no_infinity() -> None:
    x = torch.tensor([3e38, 3e38])
    assert observed_range([x], bpu.MinMaxObserver) == pytest.approx(3e38, rel=1e-6)
    assert observed_range([x], bpu.KLObserver) == pytest.approx(3e38, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [0.0, 1e-42, 1e-30, 1e-20, 1e-17, 1e-14, 1e-10])
def test_zeros_and_what_is_next_to_them_have_one_range(size: float, method: str) -> None:
    observer, name = METHODS[method]
    x = (data("laplace").astype(np.float64) * size).astype(np.float32)
    rows = list(torch.from_numpy(x))
    one = onnx_range(x, method)
    assert one == pytest.approx(1.0) if np.abs(x).max() < 1e-15 else one < 100 * size
    assert observed_range(rows, observer) == pytest.approx(one, rel=1e-6)
    assert calibrated_range(rows, name) == pytest.approx(one, rel=1e-6)
    assert observed_range(rows, bpu.MinMaxObserver) == pytest.approx(onnx_range(x, "max"), rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_no_values_have_no_range(method: str) -> None:
    _, name = METHODS[method]
    none = HistogramCalibrator()
    none.collect(torch.zeros(0))
    assert none.compute_amax(name) is None


def test_unsigned_codes_have_twice_the_levels_and_skipped_zeros_do_not_count() -> None:
    x = torch.from_numpy(data("relu"))
    signed, unsigned = HistogramCalibrator(), HistogramCalibrator(unsigned=True)
    skipping = HistogramCalibrator(skip_zeros=True)
    for calibrator in (signed, unsigned, skipping):
        calibrator.collect(x)
    for method in ("mse", "entropy"):
        assert float(unsigned.compute_amax(method)) >= float(signed.compute_amax(method)) > 1
    half = float((x == 0).float().mean()) * 100
    assert float(signed.compute_amax("percentile", percentile=half - 1)) < 0.01
    assert float(skipping.compute_amax("percentile", percentile=half - 1)) > 0.4


def test_an_averaging_constant_lets_the_past_fade() -> None:
    wide, narrow = torch.linspace(-8, 8, 1000), torch.linspace(-1, 1, 1000)
    still = observed_range([wide, *[narrow] * 20], bpu.PercentileObserver)
    fading = observed_range([wide, *[narrow] * 20], bpu.PercentileObserver.with_args(averaging_constant=0.5))
    assert still > 7
    assert 1 <= fading < 1.01


def test_a_histogram_is_solved_again_without_new_data() -> None:
    x = torch.from_numpy(data("laplace"))
    kept = bpu.FakeQuantize(bpu.HistogramObserver)
    other = bpu.FakeQuantize(bpu.HistogramObserver, dtype=bpu.qint16)
    model = torch.nn.ModuleDict({"a": kept, "b": other})
    with pytest.raises(bpu.PrepareError, match="at least 1"):
        bpu.HistogramObserver.reset_scale(model)
    for quantizer in model.values():
        quantizer.observe(x)
    assert float(kept.scale) * 127.5 == pytest.approx(observed_range([x], bpu.MSEObserver))
    before = float(other.scale)
    bpu.HistogramObserver.reset_scale(
        model, method="percentile", method_kwargs={"percentile": 99}, dtype="qint8"
    )
    expected = observed_range([x], bpu.PercentileObserver.with_args(percentile=99))
    assert float(kept.scale) * 127.5 == pytest.approx(expected)
    assert float(other.scale) == before
    bpu.HistogramObserver.reset_scale(model, method="kl", prefix="a")
    assert float(kept.scale) * 127.5 == pytest.approx(observed_range([x], bpu.KLObserver))
    with pytest.raises(ValueError, match="method must be 'mse' or 'percentile' or 'kl', not 'mean'"):
        bpu.HistogramObserver.reset_scale(model, method="mean")


def test_a_mixture_names_its_criterion() -> None:
    mixed = bpu.MixObserver()
    assert mixed.chosen == ""
    mixed(torch.from_numpy(data("laplace")))
    assert mixed.chosen == "mse"
    assert "chosen='mse'" in repr(mixed)
