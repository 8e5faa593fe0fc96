"""Fake quantization of plain tensors: torch's fused kernels, and one operator that the exporter sees."""

from __future__ import annotations

import torch

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

    scale [1], or [C] along `axis` >= 0. The gradient is 1 inside the range and 0 where values are clipped.
    """
    if scope.exporting:
        return exported_fake_quantize(x, scale, zero_point, qmin, qmax, axis)
    return _rounded(x, scale, zero_point, qmin, qmax, axis)


def _rounded(
    x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, qmin: int, qmax: int, axis: int
) -> torch.Tensor:
    if axis >= 0 and scale.numel() > 1:
        return torch.fake_quantize_per_channel_affine(x, scale, zero_point.int(), axis, qmin, qmax)
    return torch.fake_quantize_per_tensor_affine(
        x, scale.reshape(()), zero_point.reshape(()).int(), qmin, qmax
    )
