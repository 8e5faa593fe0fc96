"""Quantization-aware training of single parameters, against the same training in float."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

import openbpu.quantization.torch as bpu  # noqa: E402


class Between(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
    def __init__(self, inside: Callable[..., Any], size: tuple[int, ...] = (), start: float = 1.0) -> None:
        super().__init__()
        self.quant, self.dequant, self.inside = bpu.QuantStub(), bpu.DeQuantStub(), inside
        self.value = nn.Parameter(torch.full(size, start))

    def forward(self, x: Any) -> Any:
        x = self.quant(x)
        return self.dequant(self.inside(x) if isinstance(self.inside, nn.Module) else self.inside(self, x))


def rows() -> Any:
    return torch.randn(4, 8, 16, generator=torch.Generator().manual_seed(0))


def trained(model: nn.Module, data: Any, goal: Any, steps: int = 40) -> float:
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    for _ in range(steps):
        loss = F.mse_loss(model(data), goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def normal(x: Any) -> Any:
    return F.layer_norm(x, (16,))


@pytest.mark.parametrize(
    ("make", "goal"),
    [
        (lambda: Between(nn.LayerNorm(16)), lambda x: 1.3 * normal(x)),
        (lambda: Between(nn.RMSNorm(16)), lambda x: 1.3 * F.rms_norm(x, (16,))),
        (lambda: Between(nn.GroupNorm(2, 8)), lambda x: 1.3 * F.group_norm(x, 2)),
        (lambda: Between(nn.PReLU(8)), lambda x: F.prelu(x, torch.tensor([0.6]))),
        (lambda: Between(lambda m, x: x * m.value, (16,), 0.7), lambda x: x),
        (lambda: Between(lambda m, x: x + m.value, (16,), 0.1), lambda x: x + 0.5),
    ],
    ids=["layer norm", "rms norm", "group norm", "slopes", "layer scale", "constant bias"],
)
def test_parameters_that_start_equal_train_to_the_loss_of_the_float_model(make: Any, goal: Any) -> None:
    bpu.set_march("nash-e")
    data = rows()
    in_float = trained(make().train(), data, goal(data))
    model = bpu.prepare(make().eval(), data, bpu.default_qat_qconfig_setter)
    model.eval()
    bpu.set_fake_quantize(model, bpu.FakeQuantState.CALIBRATION)
    model(data)
    model.train()
    bpu.set_fake_quantize(model, bpu.FakeQuantState.QAT)
    assert trained(model, data, goal(data)) < in_float + 0.02  # what 8 bits and a range that follows cost


def test_the_gradient_ends_where_the_observed_range_does() -> None:
    for dtype in (bpu.qint8, bpu.qint16):
        for amax in (0.1, 1.0, 3.7, 1234.5):
            quantizer = bpu.FakeQuantize(bpu.MinMaxObserver, dtype=dtype)
            quantizer.set_state(bpu.FakeQuantState.CALIBRATION)
            quantizer(torch.tensor([amax]))
            quantizer.set_state(bpu.FakeQuantState.VALIDATION)
            data = torch.tensor([-1.01 * amax, -amax, 0.0, amax, 1.01 * amax], requires_grad=True)
            quantizer(data).dequantize().sum().backward()
            assert data.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("mode", list(bpu.QATMode))
def test_a_fused_norm_trains_or_is_folded_as_the_mode_says(mode: Any, kind: Any) -> None:
    bpu.set_march("nash-e")
    torch.manual_seed(0)
    data = torch.randn(2, 4, 6, 6)
    plain = Between(nn.Sequential(kind(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.ReLU()))
    plain(data)
    before = bpu.get_qat_mode()
    try:
        bpu.set_qat_mode(mode)
        model = bpu.prepare(plain.eval(), data, bpu.default_qat_qconfig_setter)
    finally:
        bpu.set_qat_mode(before)
    model.eval()
    bpu.set_fake_quantize(model, bpu.FakeQuantState.CALIBRATION)
    assert torch.allclose(model(data), plain(data), atol=1e-5)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(norms) is (mode is not bpu.QATMode.FuseBN)
    model.train()
    bpu.set_fake_quantize(model, bpu.FakeQuantState.QAT)
    model(data).square().sum().backward()
    trained = [p for n, p in model.named_parameters() if "inside" in n]
    assert len(trained) == (2 if mode is bpu.QATMode.FuseBN else 4)
    assert all(bool(p.grad.any()) for n, p in model.named_parameters() if "bias" not in n and "inside" in n)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"set_qat_mode: mode must be one of QATMode\.FuseBN"):
        bpu.set_qat_mode("fuse")


def test_learnable_steps_train_from_what_was_observed_and_convert() -> None:
    bpu.set_march("nash-e")
    torch.manual_seed(0)
    data = torch.randn(8, 16)
    plain = Between(nn.Linear(16, 4))
    qconfig = bpu.QConfig(
        activation=bpu.LearnableFakeQuantize.with_args(observer=bpu.MinMaxObserver),
        weight=bpu.LearnableFakeQuantize.with_args(observer=bpu.PerChannelMinMaxObserver, ch_axis=0),
    )
    model = bpu.prepare(plain.eval(), data, lambda place: qconfig)
    model.eval()
    bpu.set_fake_quantize(model, bpu.FakeQuantState.CALIBRATION)
    model(data)
    steps = {n: p for n, p in model.named_parameters() if n.endswith("scale")}
    assert sorted(p.numel() for p in steps.values()) == [1, 1, 4]
    before = {n: p.detach().clone() for n, p in steps.items()}
    assert float(before["quant.activation_post_process.scale"].detach()) == pytest.approx(
        float(data.abs().max()) / 127.5
    )
    with torch.no_grad():
        steps["quant.activation_post_process.scale"].mul_(8)  # coarse: training has to undo it
    model.train()
    bpu.set_fake_quantize(model, bpu.FakeQuantState.QAT)
    optimizer = torch.optim.Adam([steps["quant.activation_post_process.scale"]], 5e-3)
    losses = []
    for _ in range(40):
        loss = F.mse_loss(model(data), plain(data).detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    model.eval()
    bpu.set_fake_quantize(model, bpu.FakeQuantState.VALIDATION)
    found = bpu.convert(model)(data)
    assert torch.allclose(
        found, model(data), atol=float(steps["inside.activation_post_process.scale"].detach())
    )
    again = bpu.prepare(plain.eval(), data, lambda place: qconfig)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.inside.weight_fake_quant.scale, model.inside.weight_fake_quant.scale)
    assert len(bpu.export(model, data).graph.output) == 1
