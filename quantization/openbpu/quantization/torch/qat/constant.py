"""Operators with a constant operand, a parameter or a buffer: it gets a quantizer of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.operands import is_constant
from openbpu.quantization.torch.qat.decomposed import Decomposed
from openbpu.quantization.torch.qtensor import QTensor


class ConstantForm(FloatFunctional, Decomposed):
    """x + constant, x · constant, …: the constant is int16, as weight and bias of a LayerNorm are."""

    constants: tuple[str, ...] = ("operand",)

    @classmethod
    def of(cls, *args: Any, **kwargs: Any) -> FloatFunctional:
        """The module for a call with these arguments."""
        wanted = not kwargs and len(args) == 2 and any(_is_operand(a) for a in args)
        return cls() if wanted else FloatFunctional()

    def call(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute with the constant on its grid."""
        quantized = tuple(
            self.constant("operand", a) if isinstance(a, torch.Tensor) and not isinstance(a, QTensor) else a
            for a in args
        )
        return super().call(name, func, quantized, kwargs)

    def last(self) -> FloatFunctional:
        """The module itself makes the result."""
        return self


class GivenForm(ConstantForm):
    """x + mask, where the mask is computed from an input that is not quantized.

    Where a softmax is behind it (`prepare.masks` tells), the mask is quantized to int16; else it stays float.
    """

    constants: tuple[str, ...] = ()


def _is_operand(value: Any) -> bool:
    """Whether an operand is a constant that needs a scale: no scalar, and no value per channel.

    One value per channel of images or volumes is a convolution of ones, exact without a scale of its own.
    """
    if not is_constant(value):
        return False
    if not isinstance(value, torch.Tensor):
        return hasattr(value, "all_input_nodes")
    if not value.is_floating_point() or value.numel() < 2:
        return False
    return not _per_channel(tuple(value.shape))


def _per_channel(shape: tuple[int, ...]) -> bool:
    padded = (*(1,) * (4 - len(shape)), *shape)
    long = [axis for axis, n in enumerate(padded) if n > 1]
    return len(shape) in {3, 4, 5} and (long == [1] or (len(shape) == 3 and long == [2] and shape[0] == 1))
