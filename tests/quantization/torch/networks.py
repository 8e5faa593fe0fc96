"""Small networks and the steps from float to simulated that the tests share."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own custom

from openbpu import compiler
from openbpu.quantization import torch as bpu
from openbpu.runtime import Session

MARCH = bpu.March.NASH_M


def calibrated(model: Any, data: Any, setter: Any = bpu.default_calibration_qconfig_setter) -> Any:
    """The model prepared, calibrated on `data` (a tuple: its inputs) and set to VALIDATION."""
    bpu.set_march(MARCH)
    prepared = bpu.prepare(model.eval(), data, qconfig_setter=setter)
    prepared.eval()
    bpu.set_fake_quantize(prepared, bpu.FakeQuantState.CALIBRATION)
    with torch.no_grad():
        prepared(*data) if isinstance(data, tuple) else prepared(data)
    prepared.eval()
    bpu.set_fake_quantize(prepared, bpu.FakeQuantState.VALIDATION)
    return prepared


def simulated(model: Any, data: Any) -> tuple[np.ndarray[Any, Any], Any]:
    """The one output of the exported model in the simulator, and the program."""
    proto = bpu.export(model, data)
    program = compiler.compile(proto, march=str(MARCH))
    result = Session(program).run({proto.graph.input[0].name: data.numpy()})
    return next(iter(result.outputs.values())), program


def converted(model: Any, data: Any) -> np.ndarray[Any, Any]:
    """The output of the converted model."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", bpu.CpuOperatorWarning)
        return bpu.convert(model)(data).numpy()  # type: ignore[no-any-return]


class Between(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
    """A function or module between QuantStub and DeQuantStub."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.quant, self.dequant, self.function = bpu.QuantStub(), bpu.DeQuantStub(), function

    def forward(self, x: Any) -> Any:
        return self.dequant(self.function(self.quant(x)))


class Block(nn.Module):  # type: ignore[misc]
    """conv+bn+relu, depthwise conv+bn, + x, ReLU6."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1, self.relu1 = nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.bn2, self.relu2 = nn.BatchNorm2d(channels), nn.ReLU6()

    def forward(self, x: Any) -> Any:
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + x)


class Network(nn.Module):  # type: ignore[misc]
    """A little of everything: stem, residual blocks, upsampling, concat, gate, mean, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = bpu.QuantStub(), bpu.DeQuantStub()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.pool, self.up = nn.MaxPool2d(2), nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Any) -> Any:
        x = self.blocks(F.relu(self.stem(self.quant(x))))
        x = torch.cat([x, self.up(self.pool(x))], 1)
        x = x[:, :8] * torch.sigmoid(x[:, 8:])
        return self.dequant(self.head(x.mean((2, 3))))


def network() -> tuple[Any, Any]:
    """A Network whose BatchNorms have seen data, and one input."""
    torch.manual_seed(0)
    model = Network().train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, 16, 16))
    return model.eval(), torch.randn(1, 3, 16, 16)
