"""Decomposed: the base of operators that are made of others, each with a scale of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.dtype import QDType, qint16
from openbpu.quantization.torch.quantized import Quantized


class Form(Quantized):
    """What `prepare` makes of a torch function in a forward that is more than one operator with one scale.

    `of` takes the function's arguments, where torch.fx has nodes for tensors, and makes the module; calling
    the module takes the same arguments.
    """

    @classmethod
    def of(cls, *args: Any, **kwargs: Any) -> Quantized:
        """The module for a call with these arguments."""
        raise NotImplementedError

    def call(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute the function; `name` and `func` say which, as for FloatFunctional."""
        del name, func
        return self(*args, **kwargs)


class Decomposed(Quantized):
    """Its parts are FloatFunctionals below it; all but the last have int16 results.

    `constants` names operands that are quantized to int16 by a `<name>_fake_quant`.
    """

    constants: tuple[str, ...] = ()

    def last(self) -> nn.Module:
        """The part that makes the result."""
        raise NotImplementedError

    def part_dtype(self, part: nn.Module) -> QDType | None:
        """The dtype of a part's result; None is what the qconfig says."""
        return None if part is self.last() else qint16

    def constant(self, name: str, value: Any) -> Any:
        """An operand on the grid of its quantizer."""
        quantizer = self._modules.get(f"{name}_fake_quant")
        if quantizer is None or not isinstance(value, torch.Tensor):
            return value
        if self.integer:
            from openbpu.quantization.torch.integer import constant  # noqa: PLC0415 - converted models only

            return constant(quantizer, value)
        return quantizer(value)
