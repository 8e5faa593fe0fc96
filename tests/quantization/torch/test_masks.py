"""A mask in front of a softmax costs no range, whatever it is filled with, computed from and written as."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from openbpu.quantization import torch as bpu  # noqa: E402
from quantization.torch.networks import Between, calibrated  # noqa: E402
from witness import ort  # noqa: E402

LENGTH, WIDTH = 8, 16
IDS = torch.tensor([[5, 9, 2, 7, 3, 0, 0, 0], [4, 1, 8, 0, 0, 0, 0, 0]])
NONE_PADDED = IDS.clamp_min(1)
DATA = torch.randn(2, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0)) * 2
FILLS = (-30.0, -100.0, -1e4, -1e9, torch.finfo(torch.float32).min, -torch.inf)
CAUSAL = torch.ones(LENGTH, LENGTH).triu(1).bool()


class Scored(nn.Module):  # type: ignore[misc]
    """softmax(mask(scores, ids)), `read` between ids and mask."""

    def __init__(self, mask: Any, read: Any = None, softmax: Any = None) -> None:
        super().__init__()
        self.quant, self.dequant, self.query = bpu.QuantStub(), bpu.DeQuantStub(), nn.Linear(WIDTH, WIDTH)
        with torch.no_grad():
            self.query.weight.copy_(torch.linspace(-1, 1, WIDTH * WIDTH).sin_().view(WIDTH, WIDTH) / 4)
        self.mask, self.read, self.softmax = mask, read, softmax
        self.read_quant: Any = bpu.QuantStub() if read else None

    def forward(self, x: Any, ids: Any) -> Any:
        x = self.quant(x)
        given = self.read_quant(self.read(ids)) if self.read else ids
        scores = self.mask(self.query(x) @ x.transpose(1, 2) / 8, given)
        return self.dequant(self.softmax(scores) if self.softmax else scores.softmax(-1))


def padded(ids: Any) -> Any:
    return (ids == 0)[:, None, :]


def spellings(fill: float) -> dict[str, Scored]:
    """Masks with this fill."""
    below = -1e9 if fill == -torch.inf else fill  # 0 · −∞ is no number
    return {
        "masked_fill": Scored(lambda s, i: s.masked_fill(padded(i), fill)),
        "where": Scored(lambda s, i: torch.where(~padded(i), s, torch.tensor(fill))),
        "where, constant": Scored(lambda s, i: torch.where(CAUSAL, fill, s)),
        "chosen, added": Scored(lambda s, i: s + torch.where(padded(i), fill, 0.0)),
        "product, added": Scored(lambda s, i: s + (1 - (i != 0).float())[:, None] * below),
        "product, subtracted": Scored(lambda s, i: s - padded(i).float() * -below),
        "product of a quantized mask": Scored(
            lambda s, m: s + (1.0 - m[:, None]) * below, lambda i: (i != 0).float()
        ),
        "quantized mask": Scored(lambda s, m: s + m[:, None], lambda i: torch.where(i == 0, fill, 0.0)),
        "with a bias": Scored(
            lambda s, i: (
                s + (torch.where(padded(i), below, 0.0) - 0.3 * torch.arange(8.0))
                if below < -1e3
                else s + torch.where(padded(i), below, 0.0)
            )
        ),
        "causal and padded": Scored(
            lambda s, i: (s + torch.zeros(8, 8).masked_fill(CAUSAL, fill)).masked_fill(padded(i), fill)
        ),
        "scaled behind": Scored(lambda s, i: s.mul(4.0).masked_fill(padded(i), 4 * max(fill, -1e9)) / 4),
        "turned": Scored(lambda s, i: -(-s).masked_fill(padded(i), -fill)),
        "attention": Scored(
            lambda s, i: F.scaled_dot_product_attention(
                s, s, s, attn_mask=torch.where(padded(i), fill, 0.0), scale=1.0
            ),
            softmax=lambda s: s,
        ),
    }


def trained(model: Any, data: Any) -> Any:
    """The model after one batch of QAT."""
    bpu.set_march(bpu.March.NASH_M)
    prepared = bpu.prepare(model.eval(), data, bpu.default_qat_qconfig_setter).train()
    bpu.set_fake_quantize(prepared, bpu.FakeQuantState.QAT)
    prepared(*data).sum().backward()
    prepared.eval()
    bpu.set_fake_quantize(prepared, bpu.FakeQuantState.VALIDATION)
    return prepared


def judge(model: Any, found: Any) -> None:
    with torch.no_grad():
        wanted = model(DATA, IDS)
    a, b = wanted.double().flatten(), torch.as_tensor(found).detach().double().flatten()
    assert float(a @ b / (a.norm() * b.norm())) > 0.997
    assert not b[a == 0].any()


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("name", spellings(-1e4))
def test_a_mask_costs_no_range_and_its_zeros_stay(name: str, fill: float) -> None:
    model = spellings(fill)[name]
    judge(model, calibrated(model, (DATA, IDS))(DATA, IDS))


@pytest.mark.parametrize("name", spellings(-1e4))
def test_training_observes_masks_alike(name: str) -> None:
    model = spellings(-1e4)[name]
    judge(model, trained(model, (DATA, IDS))(DATA, IDS))


@pytest.mark.parametrize("name", ["product, added", "product of a quantized mask", "with a bias", "where"])
def test_a_mask_that_calibration_never_used_masks_all_the_same(name: str) -> None:
    model = spellings(-1e4)[name]
    judge(model, calibrated(model, (DATA, NONE_PADDED))(DATA, IDS))


@pytest.mark.parametrize("name", ["product, added", "quantized mask"])
def test_an_exported_mask_masks_and_is_what_convert_computes(name: str) -> None:
    model = spellings(-1e4)[name]
    ready = calibrated(model, (DATA, IDS))
    exported = bpu.export(ready, (DATA, IDS))
    names = [i.name for i in exported.graph.input]
    (found,) = ort.run(exported, dict(zip(names, (DATA.numpy(), IDS.numpy()), strict=True))).values()
    np.testing.assert_array_equal(found, bpu.convert(ready)(DATA, IDS).detach().numpy())
    judge(model, found)


def test_a_logarithm_of_a_mask_has_an_infinity_that_is_observed_as_a_mask() -> None:
    model = Scored(lambda s, m: s + m[:, None].log(), lambda i: (i != 0).float())
    judge(model, calibrated(model, (DATA, IDS))(DATA, IDS))


def quantizer_of(model: Any, name: str) -> Any:
    return getattr(model, f"_generated_{name}_0").activation_post_process


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("masked_fill", lambda x: x.masked_fill(CAUSAL, -30.0).relu()),
        ("add", lambda x: x + torch.linspace(-3, 3, 64).view(8, 8).cos()),
        ("where", lambda x: torch.where(CAUSAL, x, -1.0).softmax(-1)),
    ],
)
def test_what_masks_nothing_keeps_its_type_and_its_range(name: str, function: Any) -> None:
    data = torch.randn(1, 8, 8)
    found = quantizer_of(calibrated(Between(function), data), name)
    assert found.dtype is bpu.qint8
    assert type(found.activation_post_process).__name__ == "MSEObserver"


def test_fx_finds_a_mask_that_is_computed_from_an_input() -> None:
    bpu.set_march(bpu.March.NASH_M)
    model = bpu.prepare_qat_fx(spellings(-1e4)["product, added"], {"": bpu.get_default_qat_qconfig()})
    found = model._generated_add_0
    assert found.output_quantizer.dtype is bpu.qint16
    assert found.operand_fake_quant.dtype is bpu.qint16
