"""LayerNorm out of units that the BPU has: means, products and an int16 table of 1/sqrt."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.qtensor import QTensor
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.segment_lut import SegmentLUT


class InverseRoot:
    """x → 1 / sqrt(x + eps), with x not below 0."""

    def __init__(self, eps: float) -> None:
        self.eps = eps
        self.__name__ = "rsqrt"

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The function on tensors."""
        return torch.reciprocal(torch.sqrt(torch.relu(x) + self.eps))


class LayerNorm(Quantized, nn.LayerNorm):
    """nn.LayerNorm as mean, sub, mul, mean, rsqrt, mul, mul, add, each with a scale of its own.

    Their names are those that the vendor's tables show: `var_mean.pre_mean`, `sub`, `var_mean.mul`,
    `var_mean.post_mean`, `rsqrt`, `mul`, `weight_mul`, `bias_add`.
    """

    def decompose(self) -> None:
        """Make the operators; called once when nn.LayerNorm becomes this class."""
        inner = nn.Module()
        inner.pre_mean, inner.mul, inner.post_mean = FloatFunctional(), FloatFunctional(), FloatFunctional()
        self.var_mean = inner
        self.sub, self.mul = FloatFunctional(), FloatFunctional()
        self.rsqrt = SegmentLUT(InverseRoot(self.eps), "rsqrt")
        if self.elementwise_affine:
            self.weight_mul = FloatFunctional()
            if self.bias is not None:
                self.bias_add = FloatFunctional()

    def last(self) -> nn.Module:
        """The operator that makes the result."""
        return getattr(self, "bias_add", None) or getattr(self, "weight_mul", None) or self.mul

    def forward(self, x: Any) -> Any:
        """Normalize over the last axes."""
        if not isinstance(x, QTensor):
            return nn.LayerNorm.forward(self, x)
        axes = tuple(range(-len(self.normalized_shape), 0))
        centred = self.sub.sub(x, self.var_mean.pre_mean.mean(x, axes, keepdim=True))
        square = self.var_mean.mul.mul(centred, centred)
        variance = self.var_mean.post_mean.mean(square, axes, keepdim=True)
        y = self.mul.mul(centred, self.rsqrt(variance))
        if self.elementwise_affine:
            y = self.weight_mul.mul(y, self._constant("weight"))
            if self.bias is not None:
                y = self.bias_add.add(y, self._constant("bias"))
        return y

    def _constant(self, name: str) -> Any:
        """Weight or bias, on the grid of its quantizer."""
        value = getattr(self, name)
        quantizer = self._modules.get(f"{name}_fake_quant")
        if self.integer and quantizer is not None:
            from openbpu.quantization.torch.integer import constant  # noqa: PLC0415 - converted models only

            return constant(quantizer, value)
        return value if quantizer is None else quantizer(value)
