"""Document 1: descriptors, tensor_quant, fake_tensor_quant; the numbers are those it prints."""

import logging
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from openbpu.quantization.torch import lowlevel  # noqa: E402
from openbpu.quantization.torch.lowlevel import (  # noqa: E402
    QuantDescriptor,
    TensorQuantizer,
    fake_tensor_quant,
    tensor_quant,
)


@pytest.fixture
def x() -> Any:
    torch.manual_seed(12345)
    return torch.rand(10)


def printed(*values: Any) -> Any:
    return torch.tensor(values)


def test_the_seeded_input_is_the_documents(x: Any) -> None:
    expected = printed(0.9817, 0.8796, 0.9921, 0.4611, 0.0832, 0.1784, 0.3674, 0.5676, 0.3376, 0.2119)
    assert torch.allclose(x, expected, atol=5e-5)


def test_tensor_quant_gives_the_printed_integers_and_scale(x: Any) -> None:
    integers, scale = tensor_quant(x, x.abs().max())
    assert str(integers) == "tensor([126., 113., 127.,  59.,  11.,  23.,  47.,  73.,  43.,  27.])"
    assert f"{scale:.4f}" == "128.0057"


def test_fake_tensor_quant_gives_the_printed_values(x: Any) -> None:
    expected = (
        "tensor([0.9843, 0.8828, 0.9921, 0.4609, 0.0859, 0.1797, 0.3672, 0.5703, 0.3359,\n        0.2109])"
    )
    assert str(fake_tensor_quant(x, x.abs().max())) == expected


def test_integers_divided_by_the_scale_are_the_fake_quantized_values(x: Any) -> None:
    integers, scale = tensor_quant(x - 0.5, torch.tensor(0.4))
    assert torch.equal(integers / scale, fake_tensor_quant(x - 0.5, torch.tensor(0.4)))


@pytest.mark.parametrize(
    ("arguments", "low", "high"),
    [
        ((8,), -127, 127),
        ((8, False, False), -128, 127),
        ((8, True), 0, 255),
        ((4,), -7, 7),
        ((4, True), 0, 15),
        ((16,), -32767, 32767),
        ((0,), 0, 0),
    ],
)
def test_the_integer_range_follows_bits_sign_and_narrow_range(arguments: Any, low: Any, high: Any) -> None:
    values = torch.linspace(0 if low == 0 else -3.0, 3.0, 4001)
    integers, _ = tensor_quant(values, torch.tensor(1.0), *arguments)
    assert integers.min() == low
    assert integers.max() == high


@pytest.mark.parametrize("function", [lambda x, a: tensor_quant(x, a)[0], fake_tensor_quant])
def test_the_gradient_passes_inside_the_range_and_stops_outside(function: Any) -> None:
    x = torch.tensor([-2.0, -1.0, -0.3, 0.0, 0.7, 1.0, 1.001], requires_grad=True)
    function(x, torch.tensor(1.0)).backward(torch.arange(1.0, 8.0))
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0]


def test_a_range_of_zero_quantizes_to_zero_with_scale_one() -> None:
    amax = torch.tensor([[0.0], [2.0], [2.0**-24]])
    integers, scale = tensor_quant(torch.ones(3, 4), amax)
    assert integers[0].tolist() == integers[2].tolist() == [0.0] * 4
    assert integers[1].tolist() == [64.0] * 4  # 63.5 is rounded to even
    assert scale.flatten().tolist() == [1.0, 63.5, 1.0]
    assert fake_tensor_quant(torch.ones(3, 4), amax)[0].tolist() == [0.0] * 4


def test_ranges_broadcast_per_channel() -> None:
    x = torch.tensor([[1.0, -2.0], [100.0, 50.0]])
    integers, scale = tensor_quant(x, torch.tensor([[2.0], [100.0]]))
    assert integers.tolist() == [[64.0, -127.0], [127.0, 64.0]]
    assert scale.shape == (2, 1)


def test_float16_is_computed_in_float32_and_returned_in_float16() -> None:
    x = torch.linspace(-300, 300, 101).half()
    integers, scale = tensor_quant(x, torch.tensor(300.0).half())
    assert integers.dtype == scale.dtype == torch.half
    assert integers.abs().max() == 127
    assert fake_tensor_quant(x, torch.tensor(300.0)).dtype == torch.half


def test_a_scale_that_float16_cannot_hold_is_refused() -> None:
    tiny = torch.tensor([0.001]).half()
    with pytest.raises(ValueError, match=r"scale must be <= 65504 in float16, not 1269\d\d"):
        tensor_quant(tiny, torch.tensor(0.001))
    assert fake_tensor_quant(tiny, torch.tensor(0.001)).item() == pytest.approx(0.001, rel=1e-3)


def test_negative_values_are_refused_when_unsigned() -> None:
    with pytest.raises(TypeError, match=r"every value must be >= 0 when unsigned, not -1\.0"):
        tensor_quant(torch.tensor([-1.0, 2.0]), torch.tensor(2.0), 8, True)


def test_a_negative_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"amax must be >= 0, not -1\.0"):
        fake_tensor_quant(torch.ones(2), torch.tensor(-1.0))


def test_a_descriptor_keeps_every_argument_and_none_can_be_set() -> None:
    desc = QuantDescriptor(num_bits=4, name="w", fake_quant=False, axis=(0), unsigned=True, narrow_range=True)
    assert (desc.num_bits, desc.name, desc.fake_quant, desc.axis) == (4, "w", False, 0)
    assert (desc.unsigned, desc.narrow_range, desc.learn_amax, desc.amax) == (True, True, False, None)
    assert (desc.scale_amax, desc.calib_method) == (None, "max")
    read_only = "fake_quant name learn_amax scale_amax axis calib_method num_bits amax unsigned"
    for name in read_only.split():  # as the document lists them
        with pytest.raises(AttributeError):
            setattr(desc, name, None)


@pytest.mark.parametrize("amax", [2.5, [1.0, 2.0], np.array([[3.0]])])
def test_a_descriptor_holds_the_range_as_float32(amax: Any) -> None:
    held = QuantDescriptor(amax=amax).amax
    assert held is not None
    assert held.dtype == np.float32
    assert held.tolist() == np.array(amax).tolist()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"num_bits": 8.0}, TypeError, "num_bits must be an integer, not <class 'float'>"),
        ({"num_bits": "8"}, TypeError, "num_bits must be an integer"),
        ({"num_bits": -1}, ValueError, "num_bits must be >= 0, not -1"),
        ({"name": 3}, TypeError, "name must be a string or None"),
        ({"learn_amax": True, "axis": 0}, TypeError, "axis must be None when learn_amax is true, not 0"),
        ({"amax": 1}, TypeError, "amax must be a float, a list or an ndarray, not <class 'int'>"),
        ({"amax": "1"}, TypeError, "amax must be"),
        ({"axis": "0"}, TypeError, "axis must be"),
        ({"calib_method": "mean"}, ValueError, "calib_method must be max or histogram, not 'mean'"),
        ({"bits": 8}, TypeError, "not bits"),
    ],
)
def test_a_descriptor_refuses_what_the_document_refuses(arguments: Any, error: Any, text: Any) -> None:
    with pytest.raises(error, match=text):
        QuantDescriptor(**arguments)


def test_zero_bits_are_logged_as_an_error(caplog: Any) -> None:
    with caplog.at_level(logging.ERROR):
        QuantDescriptor(num_bits=0)
    assert "num_bits is 0" in caplog.text


def test_the_predefined_descriptors_are_those_of_the_document() -> None:
    found = {name for name in lowlevel.__all__ if name.startswith("QUANT_DESC")}
    weights = {
        f"QUANT_DESC_8BIT_CONV{kind}{n}D_WEIGHT_PER_CHANNEL" for kind in ("", "TRANSPOSE") for n in "123"
    }
    per_tensor = {"QUANT_DESC_8BIT_PER_TENSOR", "QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR"}
    assert found == weights | per_tensor | {"QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW"}
    assert all(getattr(lowlevel, name).axis == 0 for name in found - per_tensor)
    assert all(getattr(lowlevel, name).axis is None for name in per_tensor)
    assert lowlevel.QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR.unsigned


@pytest.mark.parametrize("axis", [2, -3, (0, 2)])
def test_an_axis_that_a_tensor_does_not_have_is_refused(axis: Any) -> None:
    with pytest.raises(ValueError, match=r"axis must be within -2\.\.1, not"):
        TensorQuantizer(QuantDescriptor(axis=axis))(torch.ones(2, 3))


@pytest.mark.parametrize(("axis", "shape"), [(0, (2, 1)), (-1, (1, 3)), ((0, 1), (2, 3))])
def test_an_axis_keeps_a_range_of_its_own(axis: Any, shape: Any) -> None:
    quantizer = TensorQuantizer(QuantDescriptor(axis=axis), if_quant=False, if_calib=True)
    quantizer(torch.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -60.0]]))
    quantizer.load_calib_amax()
    assert tuple(quantizer.amax.shape) == shape


def test_the_quantizer_of_the_document_gives_unsigned_4_bit_integers_per_row(x: Any) -> None:
    quantizer = TensorQuantizer(QuantDescriptor(num_bits=4, fake_quant=False, axis=(0), unsigned=True))
    rows = torch.stack([x, 10 * x])
    integers = quantizer(rows)
    assert integers.amax(1).tolist() == [15.0, 15.0]
    assert torch.equal(integers[0], integers[1])
    assert torch.allclose(quantizer.scale.flatten(), 15 / rows.amax(1))


def test_a_quantizer_takes_the_range_of_the_batch_until_it_knows_one(x: Any) -> None:
    assert torch.equal(TensorQuantizer()(x), fake_tensor_quant(x, x.max()))
    fixed = TensorQuantizer(QuantDescriptor(amax=0.5))
    assert fixed(x).max() == 0.5
    assert TensorQuantizer(QuantDescriptor(amax=0.5, scale_amax=1.5))(x).max() == pytest.approx(0.75)
