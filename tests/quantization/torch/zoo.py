"""What the lists of small modules share: a module of functions, and what is expected of it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from openbpu.quantization import torch as bpu

Shape = tuple[int, ...]
IMAGE: tuple[Shape, ...] = ((1, 8, 16, 16),)
TOKENS: tuple[Shape, ...] = ((1, 12, 16),)


@dataclass(frozen=True)
class Case:
    """`function(module, *inputs)` between stubs; `parts` are the module's layers, parameters and constants.

    cpu: ONNX operators that run on the CPU (int8; int16 may have more). loose: they compute floats that ONNX
    Runtime may round otherwise. refused: words of the error that prepare raises. fast: not only in the slow
    tests.
    """

    shapes: tuple[Shape, ...]
    function: Callable[..., Any]
    parts: dict[str, Any] = field(default_factory=dict)
    cpu: frozenset[str] = frozenset()
    loose: bool = False
    refused: str = ""
    fast: bool = False

    def module(self) -> Any:
        return Whole(self.function, len(self.shapes), deepcopy(self.parts))

    def data(self) -> tuple[Any, ...]:
        torch.manual_seed(0)
        return tuple(torch.randn(*shape) for shape in self.shapes)


class Whole(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
    """A QuantStub per input, the function, a DeQuantStub for every float it returns."""

    def __init__(self, function: Callable[..., Any], inputs: int, parts: dict[str, Any]) -> None:
        super().__init__()
        self.quants, self.dequant = nn.ModuleList(bpu.QuantStub() for _ in range(inputs)), bpu.DeQuantStub()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Any) -> Any:
        return self.ended(self.function(self, *(q(x) for q, x in zip(self.quants, inputs, strict=True))))

    def ended(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {k: self.ended(v) for k, v in value.items()}
        if isinstance(value, (tuple, list)):
            return type(value)(self.ended(v) for v in value)
        return self.dequant(value) if isinstance(value, bpu.QTensor) or value.is_floating_point() else value


def flat(value: Any) -> list[Any]:
    """The tensors of a nest, in order."""
    if isinstance(value, dict):
        return [t for v in value.values() for t in flat(v)]
    return [t for v in value for t in flat(v)] if isinstance(value, (tuple, list)) else [value]


def case(shapes: tuple[Shape, ...], function: Callable[..., Any], **parts: Any) -> Case:
    """A case all of whose operators are on the BPU, or as the keywords cpu, loose, refused, fast say."""
    said = {k: parts.pop(k) for k in ("loose", "refused", "fast") if k in parts}
    cpu = frozenset(parts.pop("cpu", "").split())
    return Case(shapes, function, parts, cpu, **said)


def conv(i: int, o: int, k: int = 3, **attrs: Any) -> Any:
    """A convolution that keeps the size."""
    return nn.Conv2d(i, o, k, **{"padding": k // 2, **attrs})


def norm(channels: int) -> Any:
    """A BatchNorm that has seen data."""
    made = nn.BatchNorm2d(channels)
    made.running_mean.normal_(generator=torch.Generator().manual_seed(1))
    made.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))
    made.weight.data = torch.linspace(0.5, 1.5, channels)
    return made
