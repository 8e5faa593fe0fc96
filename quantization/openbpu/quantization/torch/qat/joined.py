"""torch.cat and torch.stack with constants among the parts: a class token in front of the patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.operands import is_constant
from openbpu.quantization.torch.qtensor import QTensor


class JoinForm(FloatFunctional):
    """cat([token, x], 1): a constant part stands on the grid of the result, to which it would be rounded."""

    @classmethod
    def of(cls, *args: Any, **kwargs: Any) -> FloatFunctional:
        """The module for a call with these arguments."""
        parts = args[0] if args else kwargs.get("tensors", ())
        return cls() if any(_is_part(part) for part in parts) else FloatFunctional()

    def call(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Join the parts, constants on the grid of the result."""
        if not args:
            args, kwargs = (kwargs["tensors"],), {k: v for k, v in kwargs.items() if k != "tensors"}
        return super().call(name, func, ([self._part(v) for v in args[0]], *args[1:]), kwargs)

    def _part(self, value: Any) -> Any:
        quantizer = self.output_quantizer
        if quantizer is None or isinstance(value, QTensor) or not value.is_floating_point():
            return value
        if self.integer:
            from openbpu.quantization.torch.integer import constant  # noqa: PLC0415 - converted models only

            return constant(quantizer, value)
        return value if quantizer.observing else quantizer(value)


def _is_part(value: Any) -> bool:
    """Whether a part is a float tensor that is the same for every input (torch.fx: made of attributes)."""
    floating = not isinstance(value, torch.Tensor) or value.is_floating_point()
    return floating and is_constant(value)
