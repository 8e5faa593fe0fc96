"""Document 0: a bool mask times a quantized tensor; every number is one that the document prints."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from openbpu.quantization.torch import qint16  # noqa: E402
from quantization.torch.recipes import recipe  # noqa: E402

MASK = [[[True, False, True, False], [False, False, True, True]]]
INPUT = """
tensor([[[[ 0.2465, -0.4717, 60.5000, 1.0000],[-0.2124, 0.5660, -1.6637, 0.0000],
[ 0.3338, 1.6051, -1.5088, 1.0000],[-0.9215, -0.5901, 1.4871, 0.0000]],
[[ 0.1650, -0.3785, 1.6710, 0.0000],[-0.3752, 0.2337, 0.4186, 0.0000],
[-0.2221, -0.1745, -0.6064, 1.0000],[ 0.9174, -0.6317, 0.6133, 1.0000]]]])"""
"""As torch prints it; the document shortened 60.5000 to 60.5."""

FLOAT_OUTPUT = """
tensor([[[[ 0.2465, -0.4717, 60.5000, 1.0000],[-0.0000, 0.0000, -0.0000, 0.0000],
[ 0.3338, 1.6051, -1.5088, 1.0000],[-0.0000, -0.0000, 0.0000, 0.0000]],
[[ 0.0000, -0.0000, 0.0000, 0.0000],[-0.0000, 0.0000, 0.0000, 0.0000],
[-0.2221, -0.1745, -0.6064, 1.0000],[ 0.9174, -0.6317, 0.6133, 1.0000]]]])"""

QUANTIZED_INPUT = """
QTensor(data = tensor([[[[ 0.2474, -0.4708, 60.4991, 1.0007],[-0.2123, 0.5668, -1.6636, 0.0000],
[ 0.3342, 1.6045, -1.5085, 1.0007],[-0.9213, -0.5908, 1.4863, 0.0000]],
[[ 0.1643, -0.3785, 1.6709, 0.0000],[-0.3748, 0.2345, 0.4191, 0.0000],
[-0.2216, -0.1754, -0.6056, 1.0007],[ 0.9176, -0.6314, 0.6130, 1.0007]]]]),
scale = tensor([0.0018]),zero_point = tensor([0]),dtype = qint16,per_channel_axis = -1,is_quantized = False
)"""

OUTPUT = """
tensor([[[[ 0.2474, -0.4708, 60.4991, 1.0007],[ 0.0000, 0.0000, 0.0000, 0.0000],
[ 0.3342, 1.6045, -1.5085, 1.0007],[ 0.0000, 0.0000, 0.0000, 0.0000]],
[[ 0.0000, 0.0000, 0.0000, 0.0000],[ 0.0000, 0.0000, 0.0000, 0.0000],
[-0.2216, -0.1754, -0.6056, 1.0007],[ 0.9176, -0.6314, 0.6130, 1.0007]]]])"""

ZEROS = """
tensor([[[[0., 0., 0., 0.],[0., 0., 0., 0.],[0., 0., 0., 0.],[0., 0., 0., 0.]],
[[0., 0., 0., 0.],[0., 0., 0., 0.],[0., 0., 0., 0.],[0., 0., 0., 0.]]]])"""

QUANTIZED_MASK = """
QTensor(data = tensor([[[1.0000, 0.0000, 1.0000, 0.0000],[0.0000, 0.0000, 1.0000, 1.0000]]]),
scale = tensor([3.0518e-05]),zero_point = tensor([0]),dtype = qint16,per_channel_axis = -1,
is_quantized = False
)"""

HUGE_INPUT = """
QTensor(data = tensor([[[[ 0.0000e+00, 0.0000e+00, 6.9999e+04, 0.0000e+00],
[ 0.0000e+00, 0.0000e+00, -2.1363e+00, 0.0000e+00],[ 0.0000e+00, 2.1363e+00, -2.1363e+00, 0.0000e+00],
[ 0.0000e+00, 0.0000e+00, 2.1363e+00, 0.0000e+00]],[[ 0.0000e+00, 0.0000e+00, 2.1363e+00, 0.0000e+00],
[ 0.0000e+00, 0.0000e+00, 0.0000e+00, 0.0000e+00],[ 0.0000e+00, 0.0000e+00, 0.0000e+00, 0.0000e+00],
[ 0.0000e+00, 0.0000e+00, 0.0000e+00, 0.0000e+00]]]]),
scale = tensor([2.1363]),zero_point = tensor([0]),dtype = qint16,per_channel_axis = -1,is_quantized = False
)"""

HUGE_MASK = """
QTensor(data = tensor([[[0., 0., 0., 0.],[0., 0., 0., 0.]]]),
scale = tensor([3.0518e-05]),zero_point = tensor([0]),dtype = qint16,per_channel_axis = -1,
is_quantized = False
)"""


@functools.cache
def calibrated(variant: str) -> Any:
    """The variant's model in VALIDATION, its input, and its output there."""
    script = recipe("small_model/small_model.py")
    found = script.VARIANTS[variant]
    data = found.example()
    model = script.calibrate(found.model(), data)
    return model, data, model(data)


@functools.cache
def compiled(variant: str) -> Any:
    """The variant's program and what the simulator computes with it."""
    script = recipe("small_model/small_model.py")
    model, data, _ = calibrated(variant)
    program = script.compiled(model, data)
    return program, script.simulate(program, data)


def same_text(value: Any, expected: str) -> None:
    """Assert that a value prints what the document prints, signs of zeros included, line breaks aside."""
    assert "".join(str(value).split()) == "".join(expected.split())


def rows_of(program: Any, op: str) -> list[Any]:
    return [row for row in program.placement if row.op == op]


def equal_but_for_the_largest(simulated: Any, variant: str, step: float) -> bool:
    """Whether simulator and calibrated model agree; the largest value may be a step apart.

    32767 · 32767 / 32767.5 is 8e-6 of a step from a tie: float32 calls it a tie and integers do not.
    """
    output = calibrated(variant)[2].numpy()
    exact = np.ones(output.shape, bool)
    exact[0, 0, 0, 2] = False
    same = np.array_equal(simulated[exact], output[exact])
    return bool(same and abs(simulated - output).max() < 1.01 * step)


def test_bool_is_promoted_as_torch_promotes_it() -> None:
    result = torch.tensor([1.0, 2.0, 3.0]) * torch.tensor([True, False, True])
    assert result.tolist() == [1.0, 0.0, 3.0]
    assert result.dtype == torch.float32


def test_the_seeded_data_are_the_printed_input_but_for_the_value_out_of_scale() -> None:
    script = recipe("small_model/small_model.py")
    seeded, printed = script.bool_example(), script.example()
    joined = torch.cat([seeded["actors_data"], seeded["actors_mask"]], dim=-1)
    joined[0, 0, 0, 2] = 60.5
    same_text(joined, INPUT)
    assert torch.allclose(joined, printed, atol=5e-5)


@pytest.mark.parametrize("variant", ["equals_one", "logical_not", "int16_mask", "quantized_mask"])
def test_every_way_of_masking_is_right_in_float(variant: str) -> None:
    found = recipe("small_model/small_model.py").VARIANTS[variant]
    model, data = found.model(), found.example()
    same_text(data, INPUT)
    same_text(model(data), FLOAT_OUTPUT)
    same_text(model.seen["actors_input"], INPUT)
    assert model.seen["actors_mask"].bool().tolist() == MASK
    assert str(model.seen["actors_mask"].shape) == "torch.Size([1, 2, 4])"
    assert str(model.seen["actors_mask"][:, :, :, None].shape) == "torch.Size([1, 2, 4, 1])"


@pytest.mark.parametrize("variant", ["equals_one", "logical_not", "quantized_mask"])
def test_the_quantized_input_prints_as_printed(variant: str) -> None:
    seen = calibrated(variant)[0].seen["actors_input"]
    same_text(seen, QUANTIZED_INPUT)
    assert (seen.dtype, seen.q_zero_point().tolist(), seen.q_per_channel_axis()) == (qint16, [0], -1)


def test_a_quantized_one_is_not_one_so_the_mask_and_the_output_are_all_false() -> None:
    model, _, output = calibrated("equals_one")
    mask = model.seen["actors_mask"]
    same_text(mask, "tensor([[[False, False, False, False],[False, False, False, False]]])")
    assert str(mask.shape) == "torch.Size([1, 2, 4])"
    assert str(mask[:, :, :, None].shape) == "torch.Size([1, 2, 4, 1])"
    same_text(output, ZEROS)


def test_logical_not_of_equals_zero_gives_the_printed_output() -> None:
    model, _, output = calibrated("logical_not")
    same_text(model.seen["actors_mask"], f"tensor({MASK})")
    same_text(output, OUTPUT)


def test_an_int16_mask_is_explained() -> None:
    from openbpu.arch.errors import OpenbpuError

    with pytest.raises(OpenbpuError, match=r"int16 tensor.*QuantStub"):
        calibrated("int16_mask")


def test_the_quantized_mask_gives_the_printed_output() -> None:
    model, _, output = calibrated("quantized_mask")
    seen = model.seen["actors_mask"]
    same_text(seen, QUANTIZED_MASK)
    assert str(seen.shape) == "(1, 2, 4)"
    assert str(seen[:, :, :, None].shape) == "(1, 2, 4, 1)"
    same_text(output, OUTPUT.replace("60.4991", "60.4972"))


def test_seventy_thousand_makes_the_mask_vanish() -> None:
    model, _, output = calibrated("huge")
    same_text(model.seen["actors_input"], HUGE_INPUT)
    same_text(model.seen["actors_mask"], HUGE_MASK)
    same_text(output, ZEROS)


def test_split_features_and_flags_keep_a_step_each() -> None:
    model, _, output = calibrated("split_input")
    same_text(model.seen["actors_mask"], QUANTIZED_MASK)
    assert f"{model.seen['actors_data'].q_scale().item():.4f}" == "2.1363"
    assert output[0, 0, 0, 2] == pytest.approx(69999, abs=3)


def test_a_bool_input_of_its_own_keeps_the_features_fine() -> None:
    model, data, output = calibrated("split_bool")
    assert torch.equal(model.seen["actors_mask"], data["actors_mask"])
    expected = data["actors_data"] * data["actors_mask"]
    assert torch.allclose(output, expected, atol=1.1e-4)  # two steps of int16


def test_a_bool_mask_puts_mul_on_the_cpu_and_says_why() -> None:
    program, simulated = compiled("logical_not")
    (mul,) = rows_of(program, "Mul")
    assert mul.on == "CPU"
    assert "bool" in mul.reason
    assert "float32" in mul.reason
    assert "not quantized" in mul.reason
    assert np.array_equal(simulated, calibrated("logical_not")[2].numpy())


def test_a_quantized_mask_is_one_bpu_segment() -> None:
    program, simulated = compiled("quantized_mask")
    assert {row.on for row in program.placement} == {"BPU"}
    assert len(program.segments) == 1
    assert equal_but_for_the_largest(simulated, "quantized_mask", step=0.0018464)


def test_two_quantize_nodes_of_different_scales_stay_at_the_input() -> None:
    program, simulated = compiled("split_input")
    assert len(rows_of(program, "QuantizeLinear")) == 2
    assert {row.on for row in program.placement} == {"BPU"}
    assert equal_but_for_the_largest(simulated, "split_input", step=2.1364)


@pytest.mark.parametrize("variant", ["equals_one", "huge"])
def test_the_simulator_shows_the_documents_zeros(variant: str) -> None:
    assert not compiled(variant)[1].any()


def test_the_bool_input_variant_compiles_and_runs() -> None:
    _, simulated = compiled("split_bool")
    output = calibrated("split_bool")[2].numpy()
    assert abs(simulated - output).max() < 5.2e-5  # a step at a tie, if any
    assert (simulated == output).mean() > 0.9
