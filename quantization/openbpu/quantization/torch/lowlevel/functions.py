"""Quantization as differentiable functions: the rounding forwards, a clipped straight line backwards.

    q = clamp(round_half_even(x · scale), qmin, qmax)      scale = qmax / amax

A scale multiplies here, unlike everywhere else in openbpu: integers per unit, the reciprocal of a step.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch.autograd import Function

from openbpu.arch.errors import must

_LOG = logging.getLogger(__name__)

SMALLEST_AMAX = 2.0**-24
"""A range up to here (the smallest positive float16) is none at all: what it holds becomes 0, at scale 1."""

HALF_MAX = 65504.0


def bounds(num_bits: int, *, unsigned: bool = False, narrow_range: bool = True) -> tuple[int, int]:
    """Return qmin and qmax: 8 bits are −127..127, −128..127 when not narrow, 0..255 when unsigned."""
    if num_bits == 0:
        return 0, 0
    if unsigned:
        return 0, 2**num_bits - 1
    qmax = 2 ** (num_bits - 1) - 1
    return (-qmax if narrow_range else -qmax - 1), qmax


class TensorQuantFunction(Function):
    """`tensor_quant(x, amax, num_bits=8, unsigned=False, narrow_range=True)` → integers, scale.

    x: float tensor · amax: the largest magnitude, of a shape that broadcasts to x · the integers keep x's
    dtype, and `integers / scale` dequantizes them. Raises TypeError for negative values when unsigned,
    ValueError for a negative amax or a scale that float16 cannot hold.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Any, amax: Any, num_bits: int = 8, unsigned: bool = False, narrow_range: bool = True
    ) -> tuple[Any, Any]:
        """Quantize."""
        limits = _as_tensor(amax, inputs)
        ctx.save_for_backward(inputs, limits)
        integers, scale = _quantize(inputs, limits, num_bits, unsigned=unsigned, narrow_range=narrow_range)
        if inputs.dtype == torch.half and _overflows(scale):
            fix = "use a larger amax or float32"
            raise ValueError(must("tensor_quant", "scale", f"<= {HALF_MAX:g} in float16", _worst(scale), fix))
        return integers.to(inputs.dtype), scale.to(inputs.dtype)

    @staticmethod
    def backward(ctx: Any, grad_outputs: Any, _grad_scale: Any) -> tuple[Any, None, None, None, None]:
        """Let the gradient pass where |x| <= amax."""
        return _straight_through(ctx, grad_outputs), None, None, None, None


class FakeTensorQuantFunction(Function):
    """`fake_tensor_quant(x, amax, …)`: `tensor_quant` and back to real numbers; same arguments and errors.

    In float16 the division is float16's, except where the scale would overflow: there it is float32's.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Any, amax: Any, num_bits: int = 8, unsigned: bool = False, narrow_range: bool = True
    ) -> Any:
        """Quantize and dequantize."""
        limits = _as_tensor(amax, inputs)
        ctx.save_for_backward(inputs, limits)
        integers, scale = _quantize(inputs, limits, num_bits, unsigned=unsigned, narrow_range=narrow_range)
        if inputs.dtype == torch.half and _overflows(scale):
            return (integers / scale).to(inputs.dtype)
        return integers.to(inputs.dtype) / scale.to(inputs.dtype)

    @staticmethod
    def backward(ctx: Any, grad_outputs: Any) -> tuple[Any, None, None, None, None]:
        """Let the gradient pass where |x| <= amax."""
        return _straight_through(ctx, grad_outputs), None, None, None, None


tensor_quant = TensorQuantFunction.apply
fake_tensor_quant = FakeTensorQuantFunction.apply


def _as_tensor(amax: Any, inputs: Any) -> Any:
    """Return the range as a tensor beside the input: a number is welcome too."""
    if isinstance(amax, torch.Tensor):
        return amax.detach()
    return torch.as_tensor(amax, dtype=torch.float32, device=inputs.device)


def _quantize(
    inputs: Any, amax: Any, num_bits: int, *, unsigned: bool, narrow_range: bool
) -> tuple[Any, Any]:
    """Return integers and scale, both at least float32: float16 would overflow on the way."""
    if amax.dim() not in (0, inputs.dim()):
        shapes = tuple(amax.shape), tuple(inputs.shape)
        _LOG.debug("amax of shape %s meets an input of shape %s by broadcasting", *shapes)
    if unsigned and inputs.numel() and inputs.min() < 0:
        fix = "quantize it as signed, or put a ReLU before"
        raise TypeError(must("tensor_quant", "every value", ">= 0 when unsigned", inputs.min().item(), fix))
    if amax.min() < 0:
        raise ValueError(must("tensor_quant", "amax", ">= 0", amax.min().item()))
    x, limits = _wide(inputs), _wide(amax)
    qmin, qmax = bounds(num_bits, unsigned=unsigned, narrow_range=narrow_range)
    empty = limits <= SMALLEST_AMAX
    scale = torch.where(empty, torch.zeros_like(limits), qmax / limits)
    integers = torch.clamp(torch.round(x * scale), qmin, qmax)
    return integers, torch.where(empty | (scale == 0), torch.ones_like(scale), scale)


def _wide(x: Any) -> Any:
    return x.float() if x.dtype in (torch.half, torch.bfloat16) else x


def _overflows(scale: Any) -> bool:
    return bool((scale > HALF_MAX).any())


def _worst(scale: Any) -> float:
    return float(scale.max())


def _straight_through(ctx: Any, grad_outputs: Any) -> Any:
    inputs, amax = ctx.saved_tensors
    return torch.where(inputs.abs() <= amax, grad_outputs, torch.zeros_like(grad_outputs))
