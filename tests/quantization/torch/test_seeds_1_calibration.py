"""Document 1: how a TensorQuantizer is calibrated, learns its range, is saved and switched off."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from openbpu.quantization.torch.lowlevel import (  # noqa: E402
    HistogramCalibrator,
    MaxCalibrator,
    QuantDescriptor,
    TensorQuantizer,
    fake_tensor_quant,
)


@pytest.fixture
def x() -> Any:
    torch.manual_seed(12345)
    return torch.rand(10)


def test_max_calibration_remembers_the_largest_magnitude_of_all_batches(x: Any) -> None:
    quantizer = TensorQuantizer(if_quant=False, if_calib=True)
    assert torch.equal(quantizer(x), x)
    quantizer(-3 * x)
    quantizer(x)
    quantizer.disable_calib()
    quantizer(100 * x)
    quantizer.load_calib_amax()
    quantizer.enable_quant()
    assert quantizer.amax == 3 * x.max()
    assert quantizer(100 * x).max() == 3 * x.max()
    quantizer.disable_quant()
    assert torch.equal(quantizer(100 * x), 100 * x)


def test_max_calibration_along_an_axis_keeps_the_rank() -> None:
    calibrator = MaxCalibrator(axis=0, track_amax=True)
    calibrator.collect(torch.tensor([[1.0, -5.0], [2.0, 3.0]]))
    calibrator.collect(torch.tensor([[7.0, 0.0], [0.0, 0.0]]))
    assert calibrator.compute_amax().tolist() == [[7.0], [3.0]]
    assert len(calibrator.amaxs) == 2
    with pytest.raises(ValueError, match="shape of the ranges"):
        calibrator.collect(torch.ones(3, 2))
    calibrator.reset()
    assert calibrator.compute_amax() is None


@pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
def test_histogram_calibration_cuts_outliers_off(method: Any) -> None:
    torch.manual_seed(0)
    quantizer = TensorQuantizer(QuantDescriptor(calib_method="histogram", num_bits=4), if_quant=False)
    quantizer.enable_calib()
    quantizer(torch.cat([torch.randn(20000), torch.tensor([20.0])]))
    quantizer(torch.randn(20000))
    quantizer.load_calib_amax(method)
    assert 1.2 < quantizer.amax < 6


def test_the_full_percentile_is_the_maximum_also_when_the_histogram_grew() -> None:
    calibrator = HistogramCalibrator()
    calibrator.collect(torch.rand(1000))
    calibrator.collect(torch.tensor([-4.0]))
    assert calibrator.compute_amax("percentile", percentile=100) == pytest.approx(4.0, abs=2e-3)
    assert calibrator.compute_amax(percentile=50) < 0.6
    with pytest.raises(ValueError, match=r"percentile must be within 0\.\.100"):
        calibrator.compute_amax(percentile=101)
    with pytest.raises(TypeError, match="method must be"):
        calibrator.compute_amax("mean")


def test_the_mse_range_has_the_least_error_of_all_that_were_tried() -> None:
    torch.manual_seed(1)
    data = torch.randn(50000)
    calibrator = HistogramCalibrator(num_bits=4)
    calibrator.collect(data)
    amax = calibrator.compute_amax("mse")
    errors = [(fake_tensor_quant(data, amax * f, 4) - data).square().mean() for f in (0.8, 1.0, 1.25)]
    assert errors[1] == min(errors)


def test_loading_a_range_without_data_is_an_error_unless_not_strict(caplog: Any) -> None:
    quantizer = TensorQuantizer()
    with pytest.raises(RuntimeError, match="no data was collected"):
        quantizer.load_calib_amax()
    quantizer.load_calib_amax(strict=False)
    assert "no data was collected" in caplog.text
    assert quantizer.amax is None


def test_a_learned_range_gets_the_gradient_of_what_it_clips(x: Any) -> None:
    quantizer = TensorQuantizer(QuantDescriptor(amax=0.5, learn_amax=True))
    assert [name for name, _ in quantizer.named_parameters()] == ["clip_amax"]
    quantizer(torch.tensor([-1.0, 0.1, 0.2, 2.0, 3.0])).sum().backward()
    assert quantizer.clip_amax.grad == 1.0  # two clipped above, one below
    with pytest.raises(ValueError, match="no calibrator"):
        quantizer.enable_calib()


def test_training_a_learned_range_finds_a_useful_one() -> None:
    torch.manual_seed(0)
    data = torch.randn(2000)
    quantizer = TensorQuantizer(QuantDescriptor(num_bits=4, amax=10.0, learn_amax=True))
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        clipped = torch.clamp(data, -quantizer.clip_amax, quantizer.clip_amax)
        loss = (clipped - data).square().mean() + 0.002 * quantizer.clip_amax.square()
        loss.backward()
        optimizer.step()
    before = (fake_tensor_quant(data, torch.tensor(10.0), 4) - data).square().mean()
    assert (quantizer(data) - data).square().mean() < before


def test_a_calibrated_range_is_saved_and_loaded(x: Any) -> None:
    first, second = TensorQuantizer(QuantDescriptor(amax=0.5)), TensorQuantizer()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))


def test_a_quantizer_can_be_switched_off_and_says_what_it_does(x: Any) -> None:
    quantizer = TensorQuantizer(QuantDescriptor(amax=0.5), disabled=True)
    assert torch.equal(quantizer(x), x)
    assert "disabled" in repr(quantizer)
    quantizer.enable()
    assert quantizer(x).max() == 0.5
    assert "8bit fake axis=None amax=0.5000 quant=True" in repr(quantizer)
    assert quantizer.step_size == pytest.approx(0.5 / 127)
    assert quantizer.scale == 254
