"""Document 4: quantize_per_tensor and quantize_per_channel with zero points, printed as it prints them."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from openbpu.quantization.torch.lowlevel import (  # noqa: E402
    affine,
    qint8,
    qint32,
    quantize_per_channel,
    quantize_per_tensor,
    quint8,
)

PER_TENSOR = [quantize_per_tensor, affine.own_per_tensor]
PER_CHANNEL = [quantize_per_channel, affine.own_per_channel]


def one_line(value: Any) -> Any:
    return " ".join(str(value).split())


@pytest.mark.parametrize("quantize", PER_TENSOR)
def test_per_tensor_prints_what_the_document_prints(quantize: Any) -> None:
    y = quantize(torch.tensor([-1.0, 0.0, 1.0, 2.0]), 0.1, 10, quint8)
    assert one_line(y) == (
        "tensor([-1., 0., 1., 2.], size=(4,), dtype=torch.quint8, "
        "quantization_scheme=torch.per_tensor_affine, scale=0.1, zero_point=10)"
    )
    assert str(y.int_repr()) == "tensor([ 0, 10, 20, 30], dtype=torch.uint8)"


@pytest.mark.parametrize("quantize", PER_TENSOR)
def test_a_hundred_saturates_to_24_5_and_255(quantize: Any) -> None:
    y = quantize(torch.tensor([-1.0, 0.0, 1.0, 2.0, 100.0]), 0.1, 10, quint8)
    assert y.dequantize()[-1] == 24.5
    assert y.int_repr()[-1] == 255
    low = quantize(torch.tensor([-100.0]), 0.1, 10, quint8)
    assert low.int_repr().item() == 0
    assert low.dequantize().item() == -1.0


@pytest.mark.parametrize("quantize", PER_CHANNEL)
def test_per_channel_prints_what_the_document_prints(quantize: Any) -> None:
    x = torch.tensor([[-1.0, 0.0], [1.0, 2.0]])
    y = quantize(x, torch.tensor([0.1, 0.01]), torch.tensor([10, 0]), 0, quint8)
    assert one_line(y) == (
        "tensor([[-1., 0.], [ 1., 2.]], size=(2, 2), dtype=torch.quint8, "
        "quantization_scheme=torch.per_channel_affine, "
        "scale=tensor([0.1000, 0.0100], dtype=torch.float64), zero_point=tensor([10, 0]), axis=0)"
    )
    assert one_line(y.int_repr()) == "tensor([[ 0, 10], [100, 200]], dtype=torch.uint8)"


@pytest.mark.parametrize(
    ("dtype", "storage", "low", "high"),
    [
        (quint8, torch.uint8, 0, 255),
        (qint8, torch.int8, -128, 127),
        (qint32, torch.int32, -(2**31), 2**31 - 1),
    ],
)
@pytest.mark.parametrize("quantize", PER_TENSOR)
def test_each_dtype_has_its_storage_and_range(
    quantize: Any, dtype: Any, storage: Any, low: Any, high: Any
) -> None:
    y = quantize(torch.tensor([-1e12, 1e12]), 0.5, 0, dtype)
    assert y.int_repr().dtype == storage
    if storage != torch.int32:  # torch's own clamps qint32 in float32, where 2^31 - 1 does not exist
        assert y.int_repr().tolist() == [low, high]


@pytest.mark.skipif(
    not hasattr(torch, "quantize_per_tensor"), reason="this torch has dropped quantized tensors"
)
@pytest.mark.parametrize(("dtype", "zero"), [(quint8, 3), (quint8, 128), (qint8, -7), (qint32, 11)])
def test_the_stand_in_has_the_integers_of_torchs_own(dtype: Any, zero: Any) -> None:
    torch.manual_seed(0)
    x = torch.cat([torch.randn(4096) * 9, torch.arange(-40, 40) * 0.05])
    ours, theirs = (f(x, 0.1, zero, dtype) for f in (affine.own_per_tensor, quantize_per_tensor))
    steps = x.double() / 0.1
    tie = (steps - steps.floor() - 0.5).abs() < 1e-5  # there the last bit of x · (1 / scale) decides
    assert torch.equal(ours.int_repr()[~tie], theirs.int_repr()[~tie])
    assert (ours.int_repr().int() - theirs.int_repr().int()).abs().max() <= 1


@pytest.mark.skipif(
    not hasattr(torch, "quantize_per_channel"), reason="this torch has dropped quantized tensors"
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_stand_in_has_the_integers_of_torchs_own_along_an_axis(axis: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 4, 4) * 5
    scales, zeros = torch.tensor([0.1, 0.02, 0.5, 1.0]), torch.tensor([0, 3, -5, 7])
    ours, theirs = (f(x, scales, zeros, axis, qint8) for f in (affine.own_per_channel, quantize_per_channel))
    assert torch.equal(ours.int_repr(), theirs.int_repr())
    assert torch.allclose(ours.dequantize(), theirs.dequantize(), atol=1e-6)
    assert ours.q_per_channel_axis() == theirs.q_per_channel_axis() == axis
    assert torch.equal(ours.q_per_channel_scales(), theirs.q_per_channel_scales())
    assert torch.equal(ours.q_per_channel_zero_points(), theirs.q_per_channel_zero_points())


def test_the_stand_in_answers_what_torchs_own_answers() -> None:
    y = affine.own_per_tensor(torch.tensor([1.0]), 0.1, 10, quint8)
    assert (y.q_scale(), y.q_zero_point(), y.size()) == (0.1, 10, (1,))
    with pytest.raises(RuntimeError, match="per-channel quantized"):
        y.q_per_channel_axis()


@pytest.mark.parametrize("quantize", PER_TENSOR)
def test_only_quantized_dtypes_are_taken(quantize: Any) -> None:
    with pytest.raises(RuntimeError, match=r"dtype must be torch\.quint8, torch\.qint8 or torch\.qint32"):
        quantize(torch.ones(2), 0.1, 0, torch.int8)


@pytest.mark.parametrize("quantize", PER_CHANNEL)
def test_scales_must_match_the_axis(quantize: Any) -> None:
    with pytest.raises(RuntimeError):
        quantize(torch.ones(3, 2), torch.tensor([0.1, 0.2]), torch.tensor([0, 0]), 0, qint8)


def test_the_stand_in_refuses_a_zero_point_outside_the_dtype_and_other_inputs() -> None:
    with pytest.raises(RuntimeError, match=r"zero_point must be within 0\.\.255"):
        affine.own_per_tensor(torch.ones(2), 0.1, 300, quint8)
    with pytest.raises(RuntimeError, match=r"dtype must be torch\.float32"):
        affine.own_per_tensor(torch.ones(2, dtype=torch.int32), 0.1, 0, quint8)
