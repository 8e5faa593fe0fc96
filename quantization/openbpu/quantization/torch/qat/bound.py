"""F.linear, F.conv2d, … in a forward: weighted operators whose weight comes with every call."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.operands import is_constant
from openbpu.quantization.torch.qat.decomposed import Form
from openbpu.quantization.torch.qat.simple import PReLU
from openbpu.quantization.torch.qat.weighted import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Linear,
    Weighted,
)
from openbpu.quantization.torch.qtensor import QTensor


class Bound(Weighted, Form):
    """Mixed in before a weighted class; weight and bias are its attributes only while it computes.

    A weight that is a QTensor, computed in the model, makes it one operator without constants.
    """

    takes_norm = False
    products = 0
    _GEOMETRY: tuple[str, ...] = ()

    @classmethod
    def of(cls, x: Any, weight: Any, bias: Any = None, *geometry: Any, **kwargs: Any) -> Any:
        """The module with the call's geometry."""
        del x
        if isinstance(weight, QTensor) or isinstance(bias, QTensor):
            return FloatFunctional()
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.__dict__.update(_defaults(cls), **dict(zip(cls._GEOMETRY, geometry, strict=False)))
        made.__dict__.update({k: v for k, v in kwargs.items() if k in cls._GEOMETRY})
        return made

    @property
    def channels(self) -> int:
        """One until a weight was seen; the quantizer follows what it observes."""
        return 1

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The function; its arguments are torch's."""
        return self.bound(*args, **kwargs)

    def bound(self, input: Any, weight: Any, bias: Any = None, *_: Any, **__: Any) -> Any:  # noqa: A002
        """Compute with this weight and bias."""
        self.__dict__.update(weight=weight, bias=bias, products=weight.numel() // weight.shape[self._axis()])
        try:
            return Weighted.forward(self, input)
        finally:
            del self.__dict__["weight"], self.__dict__["bias"]

    def _axis(self) -> int:
        return self.channel_axis

    def settle(self, *, trains: bool = False) -> None:
        """Nothing to fold: weight and bias are the model's own."""
        del trains

    def extra_repr(self) -> str:
        """The geometry of the product, as torch prints that of the layer."""
        return ", ".join(f"{name}={self.__dict__[name]}" for name in self._GEOMETRY)


def _defaults(cls: type[Bound]) -> dict[str, Any]:
    known = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
    return {name: known[name] for name in cls._GEOMETRY} | {"padding_mode": "zeros"}


class LinearForm(Bound, Linear):
    """F.linear."""


class MatmulForm(LinearForm):
    """x @ weight with a constant matrix [K, N]: a linear layer without bias."""

    @classmethod
    def of(cls, x: Any, weight: Any = None, *rest: Any, **kwargs: Any) -> Any:
        """The module; a product of two computed tensors stays one operator."""
        matrix = isinstance(weight, torch.Tensor) and weight.ndim == 2
        if (
            not matrix
            or not is_constant(weight)
            or (isinstance(x, torch.Tensor) and not isinstance(x, QTensor))
        ):
            return FloatFunctional()
        return super().of(x, weight, *rest, **kwargs)

    def bound(self, input: Any, other: Any) -> Any:  # type: ignore[override]  # noqa: A002 - torch's own names
        """Multiply by this matrix."""
        return super().bound(input, other.transpose(0, 1))


class Conv1dForm(Bound, Conv1d):
    """F.conv1d."""

    _GEOMETRY = ("stride", "padding", "dilation", "groups")

    def apply_weight(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The convolution with the call's geometry."""
        return torch.conv1d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class Conv2dForm(Bound, Conv2d):
    """F.conv2d."""

    _GEOMETRY = ("stride", "padding", "dilation", "groups")

    def apply_weight(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The convolution with the call's geometry."""
        return torch.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class ConvTranspose2dForm(Bound, ConvTranspose2d):
    """F.conv_transpose2d."""

    _GEOMETRY = ("stride", "padding", "output_padding", "groups", "dilation")


class Conv3dForm(Bound, Conv3d):
    """F.conv3d."""

    _GEOMETRY = ("stride", "padding", "dilation", "groups")

    def apply_weight(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The convolution with the call's geometry."""
        return torch.conv3d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class ConvTranspose1dForm(Bound, ConvTranspose1d):
    """F.conv_transpose1d."""

    _GEOMETRY = ("stride", "padding", "output_padding", "groups", "dilation")


class ConvTranspose3dForm(Bound, ConvTranspose3d):
    """F.conv_transpose3d."""

    _GEOMETRY = ("stride", "padding", "output_padding", "groups", "dilation")


class PReLUForm(PReLU, Form):
    """F.prelu, its slopes int8."""

    @classmethod
    def of(cls, x: Any, weight: Any) -> Any:
        """Return the module for a call with these operands."""
        del x
        if isinstance(weight, QTensor):
            return FloatFunctional()
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        return made

    def forward(self, input: Any, weight: Any = None) -> Any:  # noqa: A002 - torch's own names
        """Compute max(x, 0) + slope · min(x, 0)."""
        return self.sloped(input, weight)

    def extra_repr(self) -> str:
        """There is nothing to say beyond the name of the class."""
        return ""
