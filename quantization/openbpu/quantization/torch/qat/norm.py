"""Normalizations out of units that the BPU has: means, products and an int16 table of 1/sqrt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.qat.decomposed import Decomposed, Form
from openbpu.quantization.torch.qtensor import QTensor
from openbpu.quantization.torch.segment_lut import SegmentLUT


class InverseRoot:
    """x → 1 / sqrt(x + eps), with x not below 0."""

    def __init__(self, eps: float) -> None:
        self.eps = eps
        self.__name__ = "rsqrt"

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The function on tensors."""
        return torch.reciprocal(torch.sqrt(torch.relu(x) + self.eps))


class Normalization(Decomposed):
    """[mean, sub,] mul, mean, rsqrt, mul [, mul, add], each with a scale of its own.

    Their names are those that the vendor's tables show: `var_mean.pre_mean`, `sub`, `var_mean.mul`,
    `var_mean.post_mean`, `rsqrt`, `mul`, `weight_mul`, `bias_add`.
    """

    def build(self, eps: float, *, centred: bool, weight: bool, bias: bool) -> None:
        """Make the parts."""
        inner = nn.Module()
        if centred:
            inner.pre_mean = FloatFunctional()
            self.sub = FloatFunctional()
        inner.mul, inner.post_mean = FloatFunctional(), FloatFunctional()
        self.var_mean = inner
        self.mul = FloatFunctional()
        self.rsqrt = SegmentLUT(InverseRoot(eps), "rsqrt")
        if weight:
            self.weight_mul = FloatFunctional()
        if bias:
            self.bias_add = FloatFunctional()
        self.constants = ("weight",) * weight + ("bias",) * bias

    def last(self) -> nn.Module:
        """The operator that makes the result."""
        return getattr(self, "bias_add", None) or getattr(self, "weight_mul", None) or self.mul

    def normalized(self, x: Any, axes: tuple[int, ...]) -> Any:
        """`x` over the root of its mean square (its variance, if centred) over `axes`."""
        inner: Any = self.var_mean
        if hasattr(inner, "pre_mean"):
            x = self.sub.sub(x, inner.pre_mean.mean(x, axes, keepdim=True))
        square = inner.mul.mul(x, x)
        return self.mul.mul(x, self.rsqrt(inner.post_mean.mean(square, axes, keepdim=True)))

    def scaled(self, y: Any, weight: Any, bias: Any) -> Any:
        """Weight and bias, quantized, behind it."""
        if weight is not None:
            y = self.weight_mul.mul(y, self.constant("weight", weight))
        return y if bias is None else self.bias_add.add(y, self.constant("bias", bias))


# --- modules ----------------------------------------------------------------------------------------------


class LayerNorm(Normalization, nn.LayerNorm):
    """nn.LayerNorm over the last axes."""

    def decompose(self) -> None:
        """Make the parts; called once when nn.LayerNorm becomes this class."""
        weight = self.elementwise_affine
        self.build(self.eps, centred=True, weight=weight, bias=weight and self.bias is not None)

    def forward(self, x: Any) -> Any:
        """Normalize over the last axes."""
        if not isinstance(x, QTensor):
            return nn.LayerNorm.forward(self, x)
        return self.scaled(self.normalized(x, _last_axes(self.normalized_shape)), self.weight, self.bias)


class RMSNorm(Normalization, nn.RMSNorm):
    """nn.RMSNorm over the last axes."""

    def decompose(self) -> None:
        """Make the parts; called once when nn.RMSNorm becomes this class."""
        self.build(_eps(self.eps), centred=False, weight=self.elementwise_affine, bias=False)

    def forward(self, x: Any) -> Any:
        """Normalize over the last axes."""
        if not isinstance(x, QTensor):
            return nn.RMSNorm.forward(self, x)
        return self.scaled(self.normalized(x, _last_axes(self.normalized_shape)), self.weight, None)


class GroupNorm(Normalization, nn.GroupNorm):
    """nn.GroupNorm over groups of channels."""

    def decompose(self) -> None:
        """Make the parts; called once when nn.GroupNorm becomes this class."""
        self.build(self.eps, centred=True, weight=self.affine, bias=self.affine)

    def forward(self, x: Any) -> Any:
        """Normalize over every group."""
        if not isinstance(x, QTensor):
            return nn.GroupNorm.forward(self, x)
        return _grouped(self, x, self.num_groups, self.weight, self.bias)


# --- functions --------------------------------------------------------------------------------------------


class NormForm(Normalization, Form):
    """A normalization that a forward calls as a function; weight and bias come with every call."""

    @classmethod
    def made(cls, eps: float, weight: Any, bias: Any, *, centred: bool = True) -> NormForm:
        """The module, with the parts that weight and bias need."""
        form = cls()
        form.build(eps, centred=centred, weight=weight is not None, bias=bias is not None)
        return form


class LayerNormForm(NormForm):
    """F.layer_norm."""

    @classmethod
    def of(
        cls, x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any, **__: Any
    ) -> NormForm:
        """The parts that weight and bias need."""
        del x, shape
        return cls.made(eps, weight, bias)

    def forward(
        self,
        input: Any,  # noqa: A002 - torch's own names
        normalized_shape: Sequence[int],
        weight: Any = None,
        bias: Any = None,
        *_: Any,
        **__: Any,
    ) -> Any:
        """Normalize over the last axes."""
        return self.scaled(self.normalized(input, _last_axes(normalized_shape)), weight, bias)


class RMSNormForm(NormForm):
    """F.rms_norm."""

    @classmethod
    def of(cls, x: Any, shape: Any, weight: Any = None, eps: float | None = None) -> NormForm:
        """The parts that a weight needs."""
        del x, shape
        return cls.made(_eps(eps), weight, None, centred=False)

    def forward(
        self,
        input: Any,  # noqa: A002 - torch's own names
        normalized_shape: Sequence[int],
        weight: Any = None,
        eps: float | None = None,
    ) -> Any:
        """Normalize over the last axes."""
        del eps
        return self.scaled(self.normalized(input, _last_axes(normalized_shape)), weight, None)


class GroupNormForm(NormForm):
    """F.group_norm."""

    @classmethod
    def of(
        cls, x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
    ) -> NormForm:
        """The parts that weight and bias need."""
        del x, groups
        return cls.made(eps, weight, bias)

    def forward(
        self,
        input: Any,  # noqa: A002 - torch's own names
        num_groups: int,
        weight: Any = None,
        bias: Any = None,
        *_: Any,
        **__: Any,
    ) -> Any:
        """Normalize over every group."""
        return _grouped(self, input, num_groups, weight, bias)


class InstanceNormForm(NormForm):
    """F.instance_norm with the statistics of its input."""

    @classmethod
    def of(
        cls,
        x: Any,
        running_mean: Any = None,
        running_var: Any = None,
        weight: Any = None,
        bias: Any = None,
        use_input_stats: bool = True,
        momentum: float = 0.1,
        eps: float = 1e-5,
        *_: Any,
    ) -> Any:
        """The parts that weight and bias need; with running statistics it is one operator of the CPU."""
        del x, running_mean, running_var, momentum
        if not use_input_stats:
            return FloatFunctional()
        return cls.made(eps, weight, bias)

    def forward(
        self,
        input: Any,  # noqa: A002 - torch's own names
        running_mean: Any = None,
        running_var: Any = None,
        weight: Any = None,
        bias: Any = None,
        *_: Any,
        **__: Any,
    ) -> Any:
        """Normalize every channel of every sample."""
        del running_mean, running_var
        return _grouped(self, input, input.shape[1], weight, bias)


class NormalizeForm(NormForm):
    """F.normalize with p = 2: x over the root of its sum of squares, which eps² bounds from below."""

    @classmethod
    def of(cls, x: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, **_: Any) -> Any:
        """The parts; another p than 2 is one operator of the CPU."""
        del x, dim
        if p != 2:
            return FloatFunctional()
        made = cls()
        made.var_mean = nn.Module()
        made.var_mean.mul, made.var_mean.sum = FloatFunctional(), FloatFunctional()
        made.rsqrt, made.mul = SegmentLUT(InverseRoot(eps**2), "rsqrt"), FloatFunctional()
        return made

    def forward(self, input: Any, p: float = 2.0, dim: Any = 1, *_: Any, **__: Any) -> Any:  # noqa: A002
        """Divide by the norm along `dim`."""
        del p
        inner: Any = self.var_mean
        total = inner.sum.sum(inner.mul.mul(input, input), dim, keepdim=True)
        return self.mul.mul(input, self.rsqrt(total))


# --- both -------------------------------------------------------------------------------------------------


def _last_axes(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(-len(shape), 0))


def _eps(eps: float | None) -> float:
    return torch.finfo(torch.float32).eps if eps is None else eps


def _grouped(norm: Normalization, x: QTensor, groups: int, weight: Any, bias: Any) -> Any:
    """Normalize [N, groups, everything else] and apply one weight and bias per channel."""
    rows = norm.normalized(x.reshape(x.shape[0], groups, -1), (-1,))
    per_channel = (1, -1, *([1] * (x.ndim - 2)))
    parts = (None if v is None else v.reshape(per_channel) for v in (weight, bias))
    return norm.scaled(rows.reshape(x.shape), *parts)
