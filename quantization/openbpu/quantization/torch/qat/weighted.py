"""Convolutions and linear layers: quantized weights, and BatchNorm and ReLU fused behind them."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own custom

from openbpu.arch.shapes import along
from openbpu.quantization.torch.fake_quantize import FakeQuantize, FakeQuantState
from openbpu.quantization.torch.qat.batch import bias_of, gain_of
from openbpu.quantization.torch.qtensor import QTensor
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.scope import scope


class Weighted(Quantized):
    """Mixed in before a float class with `weight` and `bias`.

    `bn` and `relu`, if fused, act before the result is quantized. In eval the BatchNorm is folded into weight
    and bias before the weight is rounded, which is what is exported; in training its batch statistics are
    used, on a convolution whose weight is rounded as the folded one would be.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    channel_axis = 0
    takes_norm = True
    """Whether a BatchNorm behind it can be folded into its weight."""

    def attach_weight(self, quantizer: FakeQuantize | None) -> None:
        """Set the quantizer of the weight: one scale if its `ch_axis` is -1, else one per output channel."""
        if quantizer is None:
            return
        if quantizer.ch_axis >= 0:
            quantizer.ch_axis = quantizer.activation_post_process.ch_axis = self.channel_axis
            quantizer.set_scale(torch.ones(self.channels))
            quantizer.zero_point = torch.zeros(self.channels, dtype=torch.int64)
        self._modules["weight_fake_quant"] = quantizer

    def fuse(self, *, bn: nn.Module | None = None, relu: nn.Module | None = None) -> None:
        """Take a BatchNorm or an activation into this module."""
        for name, module in (("bn", bn), ("relu", relu)):
            if module is not None:
                self._modules[name] = module

    @property
    def channels(self) -> int:
        """Output channels that have a weight scale of their own."""
        return int(self.weight.shape[self.channel_axis])

    @property
    def products(self) -> int:
        """Products that make one result."""
        return int(self.weight.numel()) // self.channels

    # --- computing ----------------------------------------------------------------------------------------

    def forward(self, x: Any) -> Any:
        """Convolve (or multiply) quantized values by quantized weights."""
        if not isinstance(x, QTensor):
            if self.qconfig is None and scope.recorder is None:
                return self.float_result(x)
            self.plain_input()
            return self.float_result(x)
        x = self.requantized(x)
        if self.integer:
            from openbpu.quantization.torch.integer import weighted  # noqa: PLC0415 - converted models only

            result = weighted(self, x)
            if result is not None:
                return result
        return self.finish("conv", self.float_result(x.plain), [x])

    def float_result(self, x: torch.Tensor) -> torch.Tensor:
        """What the module computes from plain values, with weights rounded as the state says."""
        bn, relu = self._modules.get("bn"), self._modules.get("relu")
        if bn is not None and bn.training:
            y = self._trained(x, bn)
        else:
            weight, bias = self.folded()
            y = self.apply_weight(x, self.rounded_weight(weight), bias)
        return y if relu is None else relu(y)

    def _trained(self, x: torch.Tensor, bn: Any) -> torch.Tensor:
        """BatchNorm with batch statistics behind a convolution whose weight is rounded as when folded."""
        quantizer = self._modules.get("weight_fake_quant")
        if quantizer is None or quantizer.state is FakeQuantState.CALIBRATION:
            if quantizer is not None:
                quantizer.observe(self.folded()[0])
            return bn(self.apply_weight(x, self.weight, self.bias))
        gain = gain_of(bn)
        weight = self.rounded_weight(self.weight * self._along(gain))
        safe = torch.where(gain.abs() < 1e-12, torch.full_like(gain, 1e-12), gain)
        # The small weight is divided, not the large result: that saves passes over it, forward and backward.
        return bn(self.apply_weight(x, weight / self._along(safe), self.bias))

    def rounded_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight on its grid."""
        quantizer = self._modules.get("weight_fake_quant")
        return weight if quantizer is None else quantizer.rounded(weight)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias with the BatchNorm's running statistics folded in."""
        bn = self._modules.get("bn")
        if bn is None:
            return self.weight, self.bias
        gain = gain_of(bn)
        bias = -bn.running_mean if self.bias is None else self.bias - bn.running_mean
        return self.weight * self._along(gain), bias * gain + bias_of(bn)

    def settle(self, *, trains: bool = False) -> None:
        """Fold the BatchNorm for good: weight and bias become what `folded` gives."""
        with torch.no_grad():
            weight, bias = self.folded()
            self.weight = nn.Parameter(weight.detach().clone(), requires_grad=trains)
            self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=trains)
        self._modules.pop("bn", None)

    def _along(self, gain: torch.Tensor) -> torch.Tensor:
        """`gain` per output channel in a shape that broadcasts against the weight."""
        return gain.reshape(along(self.channel_axis, self.weight.ndim))

    def apply_weight(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The linear operator itself."""
        return self._conv_forward(x, weight, bias)

    def __repr__(self) -> str:
        """As the vendor prints it: a fused ReLU shows in the name only (a ReLU6 as itself)."""
        return re.sub(r"\n  \(relu\): ReLU\([^)]*\)", "", super().__repr__())

    def _get_name(self) -> str:
        parts = [name for key, name in (("bn", "BN"), ("relu", "ReLU")) if key in self._modules]
        base = type(self).__name__
        stem = base.rstrip("123d")
        return f"{stem}{''.join(parts)}{base[len(stem) :]}"


class Conv1d(Weighted, nn.Conv1d):
    """nn.Conv1d with quantized weight and result."""


class Conv2d(Weighted, nn.Conv2d):
    """nn.Conv2d with quantized weight and result."""


class Conv3d(Weighted, nn.Conv3d):
    """nn.Conv3d with quantized weight and result."""


class Linear(Weighted, nn.Linear):
    """nn.Linear with quantized weight and result."""

    takes_norm = False

    def apply_weight(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Return X · Wᵀ + b."""
        if scope.exporting and x.ndim != 2:
            # A Gemm keeps the bias inside; behind a MatMul in high precision an Add would run on the CPU.
            rows = F.linear(x.reshape(-1, x.shape[-1]), weight, bias)
            return rows.reshape(*x.shape[:-1], weight.shape[0])
        return F.linear(x, weight, bias)


class Transposed(Weighted):
    """A transposed convolution: the weight's output channels are axis 1, those of one group."""

    groups: int
    in_channels: int
    channel_axis = 1

    def _along(self, gain: torch.Tensor) -> torch.Tensor:
        if self.groups == 1:
            return super()._along(gain)
        rows = gain.reshape(self.groups, 1, -1).expand(-1, self.in_channels // self.groups, -1)
        return rows.reshape(self.in_channels, -1, *([1] * (self.weight.ndim - 2)))


class ConvTranspose2d(Transposed, nn.ConvTranspose2d):
    """nn.ConvTranspose2d with quantized weight and result."""

    def apply_weight(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The transposed convolution with the module's geometry."""
        return F.conv_transpose2d(
            x, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )


class ConvTranspose1d(Transposed, nn.ConvTranspose1d):
    """nn.ConvTranspose1d with quantized weight and result: the two-dimensional one of height 1."""

    def apply_weight(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The transposed convolution with the module's geometry."""
        return F.conv_transpose1d(
            x, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )


class ConvTranspose3d(Transposed, nn.ConvTranspose3d):
    """nn.ConvTranspose3d with quantized weight and result."""

    def apply_weight(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The transposed convolution with the module's geometry."""
        return F.conv_transpose3d(
            x, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )


WEIGHTED: dict[type, type[Weighted]] = {
    nn.Conv1d: Conv1d,
    nn.Conv2d: Conv2d,
    nn.Conv3d: Conv3d,
    nn.Linear: Linear,
    nn.ConvTranspose1d: ConvTranspose1d,
    nn.ConvTranspose2d: ConvTranspose2d,
    nn.ConvTranspose3d: ConvTranspose3d,
}
