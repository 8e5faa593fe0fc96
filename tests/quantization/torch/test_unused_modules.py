"""Modules that a forward never calls have no scale, and need none."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from openbpu.quantization import torch as bpu  # noqa: E402
from quantization.torch.networks import Between  # noqa: E402

STATE = bpu.FakeQuantState
DATA = torch.linspace(-1, 1, 1 * 4 * 6 * 6).reshape(1, 4, 6, 6)


@pytest.fixture(autouse=True)
def march() -> None:
    bpu.set_march(bpu.March.NASH_M)


class Spare(Between):
    """Owns an addition that its forward uses only when asked to."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self.skip = bpu.FloatFunctional()
        self.skipping = False

    def forward(self, x: Any) -> Any:
        x = self.quant(x)
        y = self.function(x)
        return self.dequant(self.skip.add(y, x) if self.skipping else y)


def eager() -> Any:
    """An eager model, calibrated; its `skip` has a quantizer that has seen nothing."""
    model = Spare(nn.Conv2d(4, 4, 3, padding=1))
    model.qconfig = bpu.get_default_calib_qconfig()
    found = bpu.prepare_qat(model).eval()
    bpu.set_fake_quantize(found, STATE.CALIBRATION)
    with torch.no_grad():
        found(DATA)
        found.eval()
        bpu.set_fake_quantize(found, STATE.VALIDATION)
        found(DATA)  # a warning would be an error
    assert found.skip.output_quantizer.initial
    return found


def test_a_module_that_is_never_called_needs_no_scale() -> None:
    model = eager()
    with torch.no_grad():
        assert torch.allclose(bpu.convert(model)(DATA), model(DATA), atol=0.05)
    assert "Add" not in {node.op_type for node in bpu.export(model, DATA).graph.node}


def test_the_same_holds_for_a_checkpoint_loaded_into_a_new_model() -> None:
    fresh = Spare(nn.Conv2d(4, 4, 3, padding=1))
    fresh.qconfig = bpu.get_default_calib_qconfig()
    fresh = bpu.prepare_qat(fresh)
    fresh.load_state_dict(eager().state_dict())
    assert bpu.convert(fresh.eval())(DATA).shape == DATA.shape


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda m: bpu.convert(m)(DATA), r"Spare \(.*test_unused_modules\.py:\d+\).*; run calibration data"),
        (lambda m: bpu.export(m, DATA), r"1 were never observed \(skip"),
    ],
)
def test_a_scale_that_is_needed_after_all_is_named(use: Any, text: str) -> None:
    model = eager()
    model.skipping = True
    with pytest.raises(bpu.ExportError, match=text):
        use(model)
