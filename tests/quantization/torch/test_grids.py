"""What a grid of grid_sample is made of is int16; what it samples is int8."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from openbpu import compiler  # noqa: E402
from openbpu.quantization import torch as bpu  # noqa: E402
from openbpu.quantization.torch.fake_quantize import fake_quantizers  # noqa: E402
from openbpu.runtime import Session  # noqa: E402
from quantization.torch.networks import MARCH, calibrated  # noqa: E402

SIDE = 64
LINE = torch.linspace(-1, 1, SIDE)
PLACE = torch.stack(torch.meshgrid(LINE, LINE, indexing="xy"), -1)[None]
DATA = torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


class Warp(nn.Module):  # type: ignore[misc]
    """An image moved by a flow that is computed of it: int8 all, if nobody knew of grids."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant, self.flow = bpu.QuantStub(), bpu.DeQuantStub(), nn.Conv2d(4, 2, 1)
        self.place = nn.Parameter(PLACE)

    def forward(self, x: Any) -> Any:
        x = self.quant(x)
        flow = self.flow(x).permute(0, 2, 3, 1)
        return self.dequant(F.grid_sample(x, self.place + flow * 0.01, align_corners=True))


def dtypes(model: Any) -> dict[str, str]:
    """Of the quantizers that saw something; those of results go by the name of their module."""
    found = {name: str(q.dtype) for name, q in fake_quantizers(model) if not q.initial}
    return {name.removesuffix(".activation_post_process"): dtype for name, dtype in found.items()}


@pytest.mark.parametrize("asked", ["default", "16bit"])
def test_types_follow_from_the_sampling(asked: str) -> None:
    setter = {
        "default": bpu.default_calibration_qconfig_setter,
        "16bit": bpu.calibration_8bit_weight_16bit_act_qconfig_setter,
    }[asked]
    model = calibrated(Warp(), DATA, setter)
    found, result = dtypes(model), "qint8" if asked == "default" else "qint16"
    assert found.pop("_generated_grid_sample_0.activation_pre_process.0", "none") == (
        "none" if asked == "default" else "qint8"
    )
    assert found == {
        "quant": result,
        "flow": "qint16",
        "flow.weight_fake_quant": "qint8",
        "_generated_mul_0": "qint16",
        "_generated_add_0": "qint16",
        "_generated_add_0.operand_fake_quant": "qint16",
        "_generated_grid_sample_0": result,
    }
    program = compiler.compile(bpu.export(model, DATA), march=str(MARCH))
    assert {row.on for row in program.placement} == {"BPU"}


def test_a_point_is_where_the_float_model_has_it() -> None:
    """An int8 grid is a quarter of a pixel off here, and the steps of the image are as large as it."""
    torch.manual_seed(0)
    model, steps = Warp(), torch.arange(SIDE * SIDE * 4).view(1, SIDE, SIDE, 4).permute(0, 3, 1, 2) % 2
    data = steps.float() * 2 - 1
    proto = bpu.export(calibrated(model, data), data)
    got = Session(compiler.compile(proto, march=str(MARCH))).run({proto.graph.input[0].name: data.numpy()})
    wanted = model.eval()(data).detach().numpy()
    assert np.abs(next(iter(got.outputs.values())) - wanted).max() < 0.03


def test_a_divisor_of_a_grid_stays_int8() -> None:
    class Projected(Warp):
        def forward(self, x: Any) -> Any:
            x = self.quant(x)
            points = self.flow(x).permute(0, 2, 3, 1)
            depth = x[:, :1].permute(0, 2, 3, 1).abs() + 1.0
            return self.dequant(F.grid_sample(x, points / depth, align_corners=False))

    model = calibrated(Projected(), DATA)
    program = compiler.compile(bpu.export(model, DATA), march=str(MARCH))
    assert {row.on for row in program.placement} == {"BPU"}


class Given(nn.Module):  # type: ignore[misc]
    """A grid that is an input without a QuantStub."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = bpu.QuantStub(), bpu.DeQuantStub()

    def forward(self, x: Any, grid: Any) -> Any:
        return self.dequant(F.grid_sample(self.quant(x), grid, padding_mode="border", align_corners=True))


def test_a_grid_that_is_not_quantized_gets_int16_of_its_own() -> None:
    model = calibrated(Given(), (DATA, PLACE))
    assert dtypes(model)["_generated_grid_sample_0.grid_fake_quant"] == "qint16"
    proto = bpu.export(model, (DATA, PLACE))
    program = compiler.compile(proto, march=str(MARCH))
    assert {row.on for row in program.placement} == {"BPU"}
    feeds = dict(zip((v.name for v in proto.graph.input), (DATA.numpy(), PLACE.numpy()), strict=True))
    (got,) = Session(program).run(feeds).outputs.values()
    np.testing.assert_array_equal(bpu.convert(model)(DATA, PLACE).detach().numpy(), got)
