"""Observers and fake quantization: ranges, scales, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from openbpu.arch import numerics  # noqa: E402
from openbpu.arch.dtypes import DType  # noqa: E402
from openbpu.quantization import torch as bpu  # noqa: E402

STATE = bpu.FakeQuantState


def scale_of(observer: Any, *batches: Any) -> float:
    for batch in batches:
        observer(batch)
    return float(observer.calculate_qparams()[0])


@pytest.mark.parametrize(("dtype", "half"), [(bpu.qint8, 127.5), (bpu.qint16, 32767.5)])
def test_the_scale_is_the_largest_magnitude_by_half_the_range(dtype: Any, half: float) -> None:
    data = torch.tensor([-3.0, 2.0])
    assert scale_of(bpu.MinMaxObserver(dtype=dtype), data) == np.float32(3.0 / half)
    assert scale_of(bpu.MinMaxObserver(dtype=dtype), data) == numerics.observed_scale(3.0, dtype.storage)


def test_min_max_keeps_extremes_and_moving_average_follows_slowly() -> None:
    batches = torch.tensor([1.0]), torch.tensor([2.0])
    assert scale_of(bpu.MinMaxObserver(), *batches) == pytest.approx(2 / 127.5)
    assert scale_of(bpu.MovingAverageMinMaxObserver(), *batches) == pytest.approx(1.01 / 127.5)


def test_per_channel_scales_have_one_entry_per_channel() -> None:
    observer = bpu.PerChannelMinMaxObserver(ch_axis=1)
    observer(torch.tensor([[1.0, -4.0, 0.5]]))
    scale, zero = observer.calculate_qparams()
    assert torch.allclose(scale, torch.tensor([1.0, 4.0, 0.5]) / 127.5)
    assert zero.tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [1000, 100_000])
@pytest.mark.parametrize(
    "make", [bpu.MSEObserver, bpu.PercentileObserver, bpu.KLObserver, bpu.MixObserver, bpu.HistogramObserver]
)
def test_searching_observers_clip_no_more_than_they_gain(make: Any, size: int) -> None:
    torch.manual_seed(0)
    data = torch.randn(size)
    data[0] = 12.0

    def error(scale: float) -> float:
        codes = numerics.quantize(data.numpy(), scale, 0, DType.INT8)
        return float(np.mean((numerics.dequantize(codes, scale) - data.numpy()) ** 2))

    found = scale_of(make(), data)
    assert found <= np.float32(12.0 / 127.5)
    if make in (bpu.MSEObserver, bpu.MixObserver):
        assert error(found) <= error(12.0 / 127.5)


def test_fixed_and_clipped_scales() -> None:
    data = torch.tensor([5.0])
    assert scale_of(bpu.FixedScaleObserver(scale=1 / 128), data) == 1 / 128
    assert scale_of(bpu.ClipObserver(xmax=1.0), data) == pytest.approx(1 / 127.5)


def test_fake_quantization_is_numerics_quantize_and_back() -> None:
    torch.manual_seed(0)
    data = torch.randn(1000)
    quantizer = bpu.FakeQuantize(bpu.MinMaxObserver)
    quantizer.set_state(STATE.QAT)
    found = quantizer(data)
    codes = numerics.quantize(data.numpy(), quantizer.scale.numpy(), 0, DType.INT8)
    np.testing.assert_array_equal(found.int_repr().numpy(), codes)
    assert not torch.signbit(found.dequantize()[found.int_repr() == 0]).any()


def test_the_gradient_is_one_inside_and_zero_where_values_clip() -> None:
    data = torch.tensor([-3.0, 0.3, 3.0], requires_grad=True)
    quantizer = bpu.FakeQuantize(scale=1 / 128)
    quantizer.set_state(STATE.QAT)
    quantizer(data).dequantize().sum().backward()
    assert data.grad.tolist() == [0.0, 1.0, 0.0]


def test_states_observe_and_round_as_they_say() -> None:
    quantizer = bpu.FakeQuantize(bpu.MinMaxObserver)
    data = torch.tensor([0.123456, 1.0])
    quantizer.set_state(STATE.CALIBRATION)
    assert torch.equal(quantizer(data).dequantize(), data)
    scale = quantizer.scale.clone()
    quantizer.set_state(STATE.VALIDATION)
    assert not torch.equal(quantizer(data * 2).dequantize(), data * 2)
    assert torch.equal(quantizer.scale, scale)


def test_a_checkpoint_keeps_the_scales() -> None:
    first, second = bpu.FakeQuantize(bpu.MinMaxObserver), bpu.FakeQuantize(bpu.MinMaxObserver)
    first.observe(torch.tensor([7.0]))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.scale, second.scale)
    assert not second.initial
