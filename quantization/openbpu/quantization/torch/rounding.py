"""Fake quantization of plain tensors: torch's fused kernels, and one operator that the exporter sees."""

from __future__ import annotations

from typing import Any

import torch

from openbpu.arch.shapes import along
from openbpu.quantization.torch.scope import scope


@torch.library.custom_op("openbpu::fake_quantize", mutates_args=())
def exported_fake_quantize(
    x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, qmin: int, qmax: int, axis: int
) -> torch.Tensor:
    """What `fake_quantize` computes, as one node of an exported graph."""
    return _rounded(x, scale, zero_point, qmin, qmax, axis)


@exported_fake_quantize.register_fake
def _(
    x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, qmin: int, qmax: int, axis: int
) -> torch.Tensor:
    del scale, zero_point, qmin, qmax, axis
    return torch.empty_like(x)


def fake_quantize(
    x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, qmin: int, qmax: int, axis: int = -1
) -> torch.Tensor:
    """Return (clamp(round_half_even(x / scale) + zero_point) − zero_point) · scale.

    scale [1], or [C] along `axis` >= 0. The gradient is 1 inside the range, its ends included, and 0 beyond.
    """
    if scope.exporting:
        return exported_fake_quantize(x, scale, zero_point, qmin, qmax, axis)
    return _rounded(x, scale, zero_point, qmin, qmax, axis)


def _rounded(
    x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, qmin: int, qmax: int, axis: int
) -> torch.Tensor:
    if scale.numel() == 1:
        steps, zero = scale.reshape(()), zero_point.reshape(())
    else:
        shape = along(axis, x.ndim)
        steps, zero = scale.reshape(shape), zero_point.reshape(shape)
    low, high = (qmin, qmax) if not zero.any() else (qmin - zero, qmax - zero)
    if x.requires_grad and torch.is_grad_enabled():
        return _Rounded.apply(x, steps, low, high)
    return on_grid(x, steps, low, high)[0]


def on_grid(
    x: torch.Tensor,
    steps: torch.Tensor,
    low: int | torch.Tensor,
    high: int | torch.Tensor,
    *,
    mask: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Round `x` to multiples of `steps` between the codes low and high; with `mask`, where gradients pass.

    A handful of vectorized passes: torch's own fake_quantize kernels take several times as long on a CPU.
    """
    inside = _inside(x, steps, low, high) if mask else None
    codes = torch.div(x, steps).round_()  # torch's own kernels multiply by 1 / steps: other codes near ties
    # The sum with 0 turns -0.0 into 0.0, as the integers do.
    return codes.clamp_(low, high).mul_(steps).add_(0.0), inside


_SLACK = 1 + 2.0**-21
"""What float32 adds to amax / scale: the largest value that was observed is inside of its own range."""


def _inside(
    x: torch.Tensor, steps: torch.Tensor, low: int | torch.Tensor, high: int | torch.Tensor
) -> torch.Tensor:
    """Where `x` lies in the range of the codes, half a step beyond the outermost included.

    An observed range ±amax ends there: scale = amax / (high + ½), so amax rounds to a code that is clamped.
    """
    middle, reach = (low + high) / 2, (high - low + 1) / 2
    return torch.sub(x, steps * middle).abs_() <= steps * (reach * _SLACK)


class _Rounded(torch.autograd.Function):
    """The clipped straight-through gradient: 1 wherever |x| ≤ amax, 0 beyond."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, steps: torch.Tensor, low: Any, high: Any) -> torch.Tensor:
        """Return x rounded to whole steps and clipped to low..high."""
        y, inside = on_grid(x, steps, low, high, mask=True)
        ctx.save_for_backward(inside)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Let the gradient through inside the range."""
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None, None
