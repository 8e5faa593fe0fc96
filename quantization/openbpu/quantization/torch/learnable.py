"""LearnableFakeQuantize: the step is a parameter that training moves (LSQ).

dL/ds = Σ dL/dy · (round(x/s) − x/s inside the range, else the code it is clamped to) / sqrt(values · qmax)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.fake_quantize import FakeQuantize, FakeQuantState
from openbpu.quantization.torch.rounding import on_grid
from openbpu.quantization.torch.scope import scope


class LearnableFakeQuantize(FakeQuantize):
    """A FakeQuantize whose `scale` starts at what was observed and is then trained with the weights."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        step = self._buffers.pop("scale")
        self.register_parameter("scale", nn.Parameter(torch.as_tensor(step).clone()))

    @property
    def observing(self) -> bool:
        """Whether a forward finds the step: in calibration, and in the first batch of a training without."""
        first = self.state is FakeQuantState.CALIBRATION or not self.activation_post_process.observed
        return super().observing and first

    def set_scale(self, scale: torch.Tensor) -> None:
        """Start from these steps; the parameter stays the one that an optimizer knows."""
        known = self._parameters.get("scale")
        if known is None or known.shape != scale.shape:
            self._parameters["scale"] = nn.Parameter(scale.detach().clone())
        else:
            with torch.no_grad():
                known.copy_(scale)

    def rounded(self, x: torch.Tensor) -> torch.Tensor:
        """As in FakeQuantize, with a gradient for the step."""
        trains = self.state is FakeQuantState.QAT and torch.is_grad_enabled() and not scope.exporting
        if not trains:
            return super().rounded(x)
        if self.observing:
            self.observe(x)
        self.used = True
        with torch.no_grad():
            self.scale.abs_().clamp_min_(torch.finfo(torch.float32).tiny)
        shape = [1] * x.ndim
        if self.scale.numel() > 1:
            shape[self.ch_axis] = -1
        result: torch.Tensor = _Learned.apply(x, self.scale.reshape(shape), self.quant_min, self.quant_max)
        return result


class _Learned(torch.autograd.Function):
    """Rounds; the gradient of x is that of FakeQuantize, the one of the step LSQ's."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, steps: torch.Tensor, low: int, high: int) -> torch.Tensor:
        """Round."""
        y, inside = on_grid(x, steps, low, high, mask=True)
        ctx.save_for_backward(x, steps, y, inside)
        ctx.high = high
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """What rounding adds to a value, and the code where it is clamped."""
        x, steps, y, inside = ctx.saved_tensors
        moved = torch.where(inside, (y - x) / steps, y / steps) * grads[0]
        weight = 1 / math.sqrt(x.numel() / steps.numel() * ctx.high)
        return grads[0] * inside, moved.sum_to_size(steps.shape) * weight, None, None
