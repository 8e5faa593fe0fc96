"""Functions in a forward are prepared as their modules are: same parts, same bits, same placement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from openbpu.quantization import torch as bpu  # noqa: E402
from quantization.torch.networks import Between, calibrated, converted, simulated  # noqa: E402

SETTERS = {
    "int8": bpu.default_calibration_qconfig_setter,
    "int16": bpu.calibration_8bit_weight_16bit_act_qconfig_setter,
}
CHANNELS, WIDTH = 6, 8


class WithParameters(nn.Module):  # type: ignore[misc]
    """function(x, weight [8], bias [8])."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 2, WIDTH))
        self.bias = nn.Parameter(torch.linspace(-1, 1, WIDTH))
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x, self.weight, self.bias)


FUNCTIONS: dict[str, Any] = {
    "layer_norm": lambda: lambda x: F.layer_norm(x, (WIDTH,)),
    "layer_norm, affine": lambda: WithParameters(lambda x, w, b: F.layer_norm(x, (WIDTH,), w, b)),
    "rms_norm": lambda: WithParameters(lambda x, w, b: F.rms_norm(x, (WIDTH,), w)),
    "group_norm": lambda: WithParameters(lambda x, w, b: F.group_norm(x, 2, w[:6], b[:6])),
    "instance_norm": lambda: F.instance_norm,
    "normalize": lambda: lambda x: F.normalize(x, dim=1),
    "log_softmax": lambda: lambda x: F.log_softmax(x, dim=1),
    "softmax": lambda: lambda x: x.softmax(dim=-1),
    "glu": lambda: lambda x: F.glu(x, 1),
    "prelu": lambda: WithParameters(lambda x, w, b: F.prelu(x, w[:6] / 4)),
    "conv2d": lambda: WithParameters(lambda x, w, b: F.relu(F.conv2d(x, w.view(1, 8, 1, 1)[:, :6], b[:1]))),
    "conv1d": lambda: WithParameters(lambda x, w, b: F.conv1d(x.flatten(2), w[:6].view(1, 6, 1))),
    "conv_transpose2d": lambda: WithParameters(
        lambda x, w, b: F.conv_transpose2d(x, torch.outer(w[:6], b).view(6, 2, 2, 2), stride=2)
    ),
    "softplus": lambda: lambda x: F.softplus(x, beta=2.0),
    "expm1": lambda: torch.expm1,
    "log1p": lambda: lambda x: torch.log1p(x.abs()),
    "tanhshrink": lambda: F.tanhshrink,
}
MODULES: dict[str, Any] = {
    "RMSNorm": lambda: nn.RMSNorm(WIDTH),
    "GroupNorm": lambda: nn.GroupNorm(3, CHANNELS),
    "LogSoftmax": lambda: nn.LogSoftmax(-1),
}
CASES = FUNCTIONS | MODULES


def compared(made: Any, dtype: str) -> Any:
    torch.manual_seed(0)
    data = torch.randn(1, CHANNELS, 4, WIDTH) * 2
    model = calibrated(Between(made), data, SETTERS[dtype])
    found, program = simulated(model, data)
    np.testing.assert_array_equal(converted(model, data), found)
    return program


@pytest.mark.parametrize("name", CASES)
def test_a_function_is_on_the_bpu_with_the_converted_models_bits(name: str) -> None:
    assert {row.on for row in compared(CASES[name](), "int16").placement} == {"BPU"}


def test_attention_is_on_the_bpu_in_int8() -> None:
    program = compared(lambda x: F.scaled_dot_product_attention(x, x * 2, x), "int8")
    assert {row.on for row in program.placement} == {"BPU"}


def parts(model: Any) -> set[str]:
    """Names of everything with a quantizer, without the numbers of generated modules."""
    return {
        name.replace("_generated_", "").replace("_0", "")
        for name, module in model.named_modules()
        if getattr(module, "output_quantizer", None) is not None
    }


@pytest.mark.parametrize(
    ("module", "function", "name"),
    [
        (nn.LayerNorm(WIDTH), WithParameters(lambda x, w, b: F.layer_norm(x, (WIDTH,), w, b)), "layer_norm"),
        (nn.RMSNorm(WIDTH), WithParameters(lambda x, w, b: F.rms_norm(x, (WIDTH,), w)), "rms_norm"),
        (nn.LogSoftmax(1), lambda x: torch.log_softmax(x, 1), "log_softmax"),
    ],
)
def test_a_function_has_the_parts_of_its_module(module: Any, function: Any, name: str) -> None:
    bpu.set_march(bpu.March.NASH_M)
    data = torch.randn(1, CHANNELS, 4, WIDTH)
    of_module = parts(bpu.prepare(Between(module).eval(), data))
    of_function = parts(bpu.prepare(Between(function).eval(), data))
    assert len(of_module) > 5
    assert {p.replace(f"{name}.", "").removeprefix("function.") for p in of_function} == {
        p.removeprefix("function.") for p in of_module
    }


def everything(x: Any) -> Any:
    x = F.layer_norm(x, (WIDTH,)) + F.rms_norm(x, (WIDTH,))
    x = F.gelu(F.silu(torch.tanh(x))) * x.sigmoid()
    x = F.interpolate(F.conv2d(x, torch.ones(6, 6, 1, 1)), scale_factor=2)
    return F.log_softmax(F.softmax(x, -1), -1)


def test_fx_finds_the_functions_that_running_the_model_finds() -> None:
    bpu.set_march(bpu.March.NASH_M)
    model = Between(everything).eval()
    traced = bpu.prepare_qat_fx(model, {"": bpu.get_default_qat_qconfig()})
    run = bpu.prepare(model, torch.randn(1, CHANNELS, 4, WIDTH))
    assert parts(traced) == parts(run)
    assert len(parts(run)) > 15


def test_fx_goes_through_modules_of_torch_that_are_not_prepared() -> None:
    bpu.set_march(bpu.March.NASH_M)
    qconfig = {"": bpu.get_default_qat_qconfig()}
    model = bpu.prepare_qat_fx(Between(nn.Upsample(scale_factor=2, mode="bilinear")).eval(), qconfig)
    assert hasattr(model.function, "_generated_interpolate_0")


def test_grouped_heads_are_refused_with_what_to_write() -> None:
    bpu.set_march(bpu.March.NASH_M)
    model = Between(lambda x: F.scaled_dot_product_attention(x, x, x, enable_gqa=True)).eval()
    with pytest.raises(bpu.QTensorError, match=r"test_functions.py:\d+.*repeat_interleave"):
        bpu.prepare(model, torch.randn(1, 2, 4, 8))


BIAS = torch.linspace(-3, 0, 16).view(4, 4)
MASKS: dict[str, Any] = {
    "causal": {"is_causal": True},
    "what takes part": {"attn_mask": torch.ones(4, 4).tril().bool()},
    "0 and -inf": {"attn_mask": torch.full((4, 4), -torch.inf).triu(1)},
    "added": {"attn_mask": BIAS},
    "added and -inf": {
        "attn_mask": torch.linspace(-3, 0, 16).view(4, 4) + torch.full((4, 4), -torch.inf).triu(1)
    },
    "added and -1e9": {"attn_mask": BIAS + torch.full((4, 4), -1e9).triu(1)},
}


@pytest.mark.parametrize("name", MASKS)
def test_a_constant_mask_of_attention_is_on_the_bpu(name: str) -> None:
    def attend(x: Any) -> Any:
        return F.scaled_dot_product_attention(x, x * 2, x, **MASKS[name])

    assert {row.on for row in compared(attend, "int8").placement} == {"BPU"}
    data = torch.randn(1, 2, 4, 8)
    wanted, found = attend(data), converted(calibrated(Between(attend), data), data)
    np.testing.assert_allclose(found, wanted.numpy(), atol=0.15)


NEVER = torch.ones(4, 4).triu(1).bool()


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        ("masked_fill", lambda x: x.masked_fill(NEVER, -torch.inf)),
        ("masked_fill", lambda x: x.masked_fill(NEVER, torch.finfo(torch.float32).min)),
        ("where", lambda x: torch.where(NEVER, -1e9, x)),
        ("add", lambda x: x + NEVER * -100.0),
        ("add", lambda x: torch.zeros(4, 4).masked_fill(NEVER, -torch.inf) + x),
        ("add", lambda x: x + BIAS.masked_fill(NEVER, -torch.inf)),
        ("add", lambda x: BIAS.masked_fill(NEVER, -1e9) + x),
        ("sub", lambda x: x - torch.zeros(4, 4).masked_fill(NEVER, 1e9)),
        ("sub", lambda x: x - BIAS.masked_fill(NEVER, torch.inf)),
    ],
)
def test_what_a_mask_leaves_out_has_no_share(name: str, masked: Any) -> None:
    data = torch.randn(1, 2, 4, 4) * 3
    model = calibrated(Between(lambda x: masked(x).softmax(-1)), data)
    shares = converted(model, data)
    assert not shares[..., NEVER.numpy()].any()
    np.testing.assert_allclose(shares, masked(data).softmax(-1).numpy(), atol=0.03)
    quantizer = getattr(model, f"_generated_{name}_0").activation_post_process
    assert quantizer.dtype is bpu.qint16
    assert float(quantizer.scale) < 40 / 32767


def test_weights_of_a_function_train() -> None:
    bpu.set_march(bpu.March.NASH_M)
    data = torch.randn(2, CHANNELS, 4, WIDTH)
    function = WithParameters(lambda x, w, b: F.linear(x, torch.outer(b, w), b))
    model = bpu.prepare(Between(function), data, bpu.default_qat_qconfig_setter).train()
    bpu.set_fake_quantize(model, bpu.FakeQuantState.QAT)
    model(data).square().mean().backward()
    assert float(model.function.weight.grad.abs().sum()) > 0
    assert model.function._generated_linear_0.weight_fake_quant.scale.shape == (WIDTH,)
