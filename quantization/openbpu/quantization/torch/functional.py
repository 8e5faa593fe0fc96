"""FloatFunctional: an operator without weights as a module, so that it has a scale of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own custom

from openbpu.quantization.torch.operands import note_operands
from openbpu.quantization.torch.qtensor.tensor import qtensors, unwrap
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.scope import owned_by


class FloatFunctional(Quantized):
    """`self.add.add(x, y)` instead of `x + y`; `prepare` inserts it where a forward does not use it.

    In a float model it only computes. Use one instance per place: two uses share one scale.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fused_relu: Any = None

    def call(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute `func` on plain data and quantize the result; plain operands give a plain result."""
        found = qtensors((args, kwargs))
        if not found:
            with owned_by(self):
                plain = func(*args, **kwargs)
            return plain if self.fused_relu is None else self.fused_relu(plain)
        args, kwargs = self.requantized(args), self.requantized(kwargs)
        if self.integer:
            from openbpu.quantization.torch.integer import functional  # noqa: PLC0415 - converted models only

            result = functional(self, name, func, args, kwargs)
            if result is not None:
                return result
        y = func(*unwrap(args), **unwrap(kwargs))
        quantizer = self.output_quantizer
        if self.hiding is not None and quantizer is not None and quantizer.observing:
            y = self.hiding.near(name, unwrap(args), y, quantizer)
        result = self.finish(name, y if self.fused_relu is None else self.fused_relu(y), found)
        note_operands(name, args, result)
        return result

    def forward(self, *_: Any) -> Any:
        """Not an operator itself."""
        raise RuntimeError("FloatFunctional has no forward; call its add, mul, cat, …")

    def add_scalar(self, x: Any, y: float) -> Any:
        """X + y for a number y."""
        return self.call("add", torch.add, (x, y), {})

    def mul_scalar(self, x: Any, y: float) -> Any:
        """X · y for a number y."""
        return self.call("mul", torch.mul, (x, y), {})

    def add_relu(self, x: Any, y: Any) -> Any:
        """max(x + y, 0) with one rounding."""
        return self.call("add_relu", _add_relu, (x, y), {})

    def extra_repr(self) -> str:
        """There is nothing to say beyond the name of the class."""
        return ""


def _add_relu(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.relu(x + y)


def _method(name: str, func: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: FloatFunctional, *args: Any, **kwargs: Any) -> Any:
        return self.call(name, func, args, kwargs)

    method.__name__, method.__doc__ = name, f"torch's `{name}`, with a scale of its own."
    return method


_TORCH = """
    add sub mul div matmul bmm cat stack sum mean amax amin max min maximum minimum exp log sqrt rsqrt
    reciprocal pow abs neg sin cos tanh sigmoid erf clamp softmax where
"""
for _name in _TORCH.split():
    setattr(FloatFunctional, _name, _method(_name, getattr(torch, _name)))
for _name in ("relu", "gelu", "silu", "interpolate", "layer_norm", "hardswish", "hardsigmoid", "softplus"):
    setattr(FloatFunctional, _name, _method(_name, getattr(F, _name)))
