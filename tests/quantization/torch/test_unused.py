"""Modules that a forward does not come to, and parts of a prepared model in another model."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from openbpu.quantization import torch as bpu  # noqa: E402
from quantization.torch.networks import MARCH, converted, simulated  # noqa: E402

STATE = bpu.FakeQuantState


class Unit(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
    """A residual unit whose adder is there also where there is no shortcut, as model zoos write it."""

    def __init__(self, *, shortcut: bool) -> None:
        super().__init__()
        self.conv, self.skip_add = nn.Conv2d(4, 4, 1), bpu.FloatFunctional()
        self.shortcut = shortcut

    def forward(self, x: Any) -> Any:
        y = self.conv(x)
        return self.skip_add.add(y, x) if self.shortcut else y


class Backbone(nn.Module):  # type: ignore[misc]
    """Stub and units, without a DeQuantStub: its result is a QTensor."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = bpu.QuantStub(scale=1 / 32)
        self.units = nn.Sequential(Unit(shortcut=False), Unit(shortcut=True))
        self.early = nn.Conv2d(4, 4, 1)
        self.exits_early = False

    def forward(self, x: Any) -> Any:
        y = self.units(self.quant(x))
        return self.early(y) if self.exits_early else y


class Head(nn.Module):  # type: ignore[misc]
    """A convolution and the DeQuantStub."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dequant = nn.Conv2d(4, 2, 1), bpu.DeQuantStub()

    def forward(self, x: Any) -> Any:
        return (self.dequant(self.conv(x)),)


class Deployed(nn.Module):  # type: ignore[misc]
    """Backbone and head without what only training needs."""

    def __init__(self, backbone: Any, head: Any) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x: Any) -> Any:
        return self.head(self.backbone(x))[0]


def eager(qconfig: Any) -> Any:
    """The whole prepared in eager mode, no data seen yet."""
    bpu.set_march(MARCH)
    torch.manual_seed(0)
    model = Deployed(Backbone(), Head()).eval()
    model.qconfig = qconfig
    return bpu.prepare_qat(model)


def calibrated() -> tuple[Any, Any]:
    model, data = eager(bpu.get_default_calib_qconfig()).eval(), torch.randn(1, 4, 6, 6)
    bpu.set_fake_quantize(model, STATE.CALIBRATION)
    with torch.no_grad():
        model(data)
    model.eval()
    bpu.set_fake_quantize(model, STATE.VALIDATION)
    return model, data


def test_a_module_that_is_never_reached_stops_neither_convert_nor_export() -> None:
    model, data = calibrated()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(data)
    found, _ = simulated(model, data)
    np.testing.assert_array_equal(converted(model, data), found)


def test_a_module_reached_only_after_calibration_is_refused_by_name() -> None:
    model, data = calibrated()
    model.backbone.exits_early = True
    with pytest.warns(bpu.InitialScaleWarning, match=r"backbone\.early"):
        model(data)
    with pytest.raises(bpu.ExportError, match=r"export: .*backbone\.early"):
        bpu.export(model, data)
    with pytest.raises(bpu.ExportError, match=r"never observed \(backbone \(.*test_unused\.py:\d+"):
        bpu.convert(model)(data)


def test_parts_of_a_converted_model_can_stand_in_a_deployment_model() -> None:
    model, data = calibrated()
    whole = bpu.convert(model)
    deployed = Deployed(whole.backbone, whole.head).eval()
    found, program = simulated(deployed, data)
    np.testing.assert_array_equal(whole(data).numpy(), found)
    assert {row.on for row in program.placement} == {"BPU"}


def test_validating_a_trained_qat_model_without_a_state_is_no_misuse() -> None:
    model, data = eager(bpu.get_default_qat_qconfig()).train(), torch.randn(1, 4, 6, 6)
    model(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.eval()(data)


def test_a_warning_points_to_the_users_line() -> None:
    model = eager(bpu.get_default_calib_qconfig()).eval()
    with pytest.warns(bpu.QuantizationWarning) as caught:
        model(torch.zeros(1, 4, 6, 6))
    assert all(w.filename == __file__ for w in caught)


def test_exporting_logs_nothing_that_the_user_could_mistake_for_a_problem(caplog: Any) -> None:
    model, data = calibrated()
    bpu.export(model, data)
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]
