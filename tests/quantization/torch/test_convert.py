"""Converted and simulated outputs are the same bits, operator by operator and for a whole network."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from openbpu.quantization import torch as bpu  # noqa: E402
from quantization.torch import networks  # noqa: E402
from quantization.torch.networks import (  # noqa: E402
    Between,
    calibrated,
    converted,
    network,
    simulated,
)

SETTERS = {
    "int8": bpu.default_calibration_qconfig_setter,
    "int16": bpu.calibration_8bit_weight_16bit_act_qconfig_setter,
}
MODULES: dict[str, Any] = {
    "LeakyReLU": lambda: nn.LeakyReLU(0.1),
    "GELU": nn.GELU,
    "SiLU": nn.SiLU,
    "Hardsigmoid": nn.Hardsigmoid,
    "Softplus": nn.Softplus,
    "LogSigmoid": nn.LogSigmoid,
    "PReLU": lambda: nn.PReLU(6),
    "Softmax": lambda: nn.Softmax(1),
    "AvgPool2d": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "AdaptiveAvgPool2d": lambda: nn.AdaptiveAvgPool2d(1),
    "MaxPool2d": lambda: nn.MaxPool2d(2),
    "BatchNorm2d": lambda: nn.BatchNorm2d(6),
    "LayerNorm": lambda: nn.LayerNorm(8),
    "Upsample": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
}
FUNCTIONS: dict[str, Any] = {
    "square of itself": lambda x: x * x,
    "sum with the flipped": lambda x: x + x.flip(1),
    "difference": lambda x: x - x.flip(1),
    "product": lambda x: x * x.flip(1),
    "maximum": lambda x: torch.maximum(x, x.flip(1)),
    "number minus": lambda x: 1 - x,
    "number times": lambda x: x * 0.37,
    "threshold": lambda x: F.threshold(x, 0.5, -2.0),
    "clamp": lambda x: x.clamp(-1, 1),
    "pow": lambda x: x**3,
    "power of two": lambda x: x**2,
    "quotient per channel": lambda x: x / torch.linspace(0.5, 2, 6).view(1, 6, 1, 1),
    "resize to a size": lambda x: F.interpolate(x, size=(13, 11), mode="bilinear"),
    "sum": lambda x: x.sum(1),
    "amax": lambda x: x.amax(1),
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "stack": lambda x: torch.stack([x, x * 2], 1).flatten(1, 2),
    "constant per channel": lambda x: x * torch.linspace(0.5, 2, 6).view(1, 6, 1, 1),
    "resize": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
    "chunks": lambda x: torch.cat([part * 2 for part in x.chunk(2, 1)], 1),
}
CASES = MODULES | {name: (lambda f=f: f) for name, f in FUNCTIONS.items()}


@pytest.mark.parametrize("dtype", SETTERS)
@pytest.mark.parametrize("name", CASES)
def test_every_operator_is_on_the_bpu_and_gives_the_converted_models_bits(name: str, dtype: str) -> None:
    torch.manual_seed(0)
    data = torch.randn(1, 6, 8, 8) * 2
    model = calibrated(Between(CASES[name]()), data, SETTERS[dtype])
    found, program = simulated(model, data)
    np.testing.assert_array_equal(converted(model, data), found)
    assert {row.on for row in program.placement} == {"BPU"}


class Beside(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
    """Functions of x and a parameter whose elements are all equal, their results joined."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Parameter(torch.full((12, 16), 0.731))

    def forward(self, x: Any) -> Any:
        c = self.same
        made = [x + c, F.relu(x + c), c - x, x * c, x / c, c / x, torch.maximum(x, c)]
        return torch.cat(made, 1)


def test_a_constant_of_equal_elements_is_the_number_that_the_compiler_sees() -> None:
    torch.manual_seed(1)
    data = torch.randn(1, 12, 16).abs() + 0.3
    model = calibrated(Between(Beside()), data, SETTERS["int16"])
    found, program = simulated(model, data)
    np.testing.assert_array_equal(converted(model, data), found)
    assert {row.on for row in program.placement} == {"BPU"}


@pytest.mark.parametrize("dtype", SETTERS)
def test_a_network_gives_the_same_bits_converted_and_simulated(dtype: str) -> None:
    model, data = network()
    prepared = calibrated(model, data, SETTERS[dtype])
    found, program = simulated(prepared, data)
    np.testing.assert_array_equal(converted(prepared, data), found)
    assert len(program.segments) == 1


def test_matrix_product_of_two_activations() -> None:
    torch.manual_seed(0)
    data = torch.randn(1, 2, 4, 8)
    model = calibrated(Between(lambda x: x @ x.transpose(2, 3)), data)
    np.testing.assert_array_equal(converted(model, data), simulated(model, data)[0])


def test_a_converted_model_exports_like_the_prepared_one() -> None:
    model, data = network()
    prepared = calibrated(model, data)
    first = bpu.export(prepared, data)
    second = bpu.export(bpu.convert(prepared), data)
    assert [n.op_type for n in first.graph.node] == [n.op_type for n in second.graph.node]


def test_a_model_that_saw_no_data_is_not_converted() -> None:
    bpu.set_march(bpu.March.NASH_M)
    data = torch.randn(1, 2)
    prepared = bpu.prepare(Between(torch.tanh), data)
    with pytest.raises(bpu.ExportError, match="were never observed"):
        bpu.convert(prepared)


def test_weights_of_one_scale_give_the_same_bits_converted_and_simulated() -> None:
    one = bpu.FakeQuantize.with_args(observer=bpu.MinMaxObserver, dtype=bpu.qint8)
    setter = bpu.ModuleNameQconfigSetter({"": replace(bpu.get_default_calib_qconfig(), weight=one)})
    model, data = network()
    prepared = calibrated(model, data, setter)
    weights = [m for name, m in prepared.named_modules() if name.endswith("weight_fake_quant")]
    assert len(weights) == 7
    assert {weight.scale.numel() for weight in weights} == {1}
    found, program = simulated(prepared, data)
    np.testing.assert_array_equal(converted(prepared, data), found)
    assert {row.on for row in program.placement} == {"BPU"}


@pytest.mark.parametrize(
    "layer", [lambda: nn.Conv2d(4, 6, 3), lambda: nn.ConvTranspose2d(4, 6, 2, 2), lambda: nn.Linear(8, 6)]
)
def test_a_last_layer_keeps_its_bias_in_float(layer: Any) -> None:
    torch.manual_seed(0)
    data = torch.randn(1, 4, 8, 8)
    model = calibrated(Between(layer()), data)
    found, program = simulated(model, data)
    np.testing.assert_array_equal(converted(model, data), found)
    last = program.segments[-1].operators[-1]
    assert program.constant(last.scales_id).ndim == 2  # scales and offsets


@pytest.mark.parametrize("name", ["quantized on the CPU", "a softmax that the march leaves to the CPU"])
def test_a_march_with_less_on_the_bpu_has_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "MARCH", bpu.March.BAYES_E)
    function = F.relu if name.startswith("quantized") else partial(torch.softmax, dim=1)
    torch.manual_seed(0)
    data = torch.randn(1, 16, 64, 64)  # enough to meet what float32 and float64 round differently
    model = calibrated(Between(function), data, bpu.calibration_8bit_weight_16bit_act_qconfig_setter)
    found, program = simulated(model, data)
    on_cpu = {row.op for row in program.placement if row.on == "CPU"}
    assert on_cpu == {"QuantizeLinear", "DequantizeLinear"} | (set() if function is F.relu else {"Softmax"})
    different = np.abs(converted(model, data) - found)
    assert different.max() <= (0 if function is F.relu else 1.01 * np.abs(found).max() / 32767)
    assert (different > 0).mean() < 1e-3


@pytest.mark.parametrize("shape", [(1, 12, 16), (1, 3, 12, 16)])
def test_a_gelu_of_tokens_is_viewed_in_the_rank_that_the_march_has(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "MARCH", bpu.March.BAYES_E)
    torch.manual_seed(0)
    data = torch.randn(*shape)
    model = calibrated(Between(F.gelu), data)
    found, program = simulated(model, data)
    np.testing.assert_array_equal(converted(model, data), found)
    assert {row.op for row in program.placement if row.on == "CPU"} <= {"QuantizeLinear", "DequantizeLinear"}


def test_a_converted_model_makes_weights_and_tables_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from openbpu.quantization.torch.integer import products, tables

    made: list[str] = []

    def counted(module: Any, original: Any) -> Any:
        def make(*arguments: Any) -> Any:
            made.append(module.__name__)
            return original(*arguments)

        return make

    for module in (products, tables):
        monkeypatch.setattr(module, "_made", counted(module, module._made))
    data = torch.randn(1, 5, 16)
    model = torch.nn.Sequential(torch.nn.LayerNorm(16), torch.nn.Linear(16, 8), torch.nn.GELU())
    exact = bpu.convert(calibrated(Between(model), data))
    first = exact(data)
    assert len(set(made)) == 2
    made.clear()
    assert torch.equal(exact(data), first)
    assert not made
    with torch.no_grad():
        exact.get_submodule("function.1").weight.mul_(-1)
    assert not torch.equal(exact(data), first)
