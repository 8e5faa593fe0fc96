"""torch.where and masked_fill: one of two values per element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from openbpu.quantization.torch.dtype import qint16
from openbpu.quantization.torch.errors import QTensorError
from openbpu.quantization.torch.fake_quantize import FakeQuantState
from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.operands import is_constant
from openbpu.quantization.torch.qat.constant import ConstantForm, GivenForm
from openbpu.quantization.torch.qtensor import QTensor
from openbpu.quantization.torch.scope import here

FAR = 1e4
"""A fill of at least this size only says "never": no quantized tensor has room for it beside values."""

MASKS = 50.0
"""An added constant of 0 and at most −50 is a mask: exp(−50) is nothing. (Shifted windows add −100.)"""

GAP = 16.0
"""What stands for it lies so far beyond the values: exp(−16) is below every step of a softmax."""


class Choice(FloatFunctional):
    """torch.where(condition, x, y), or x.masked_fill(mask, value) with `fill`.

    A fill like −inf or −1e9 widens the observed range by GAP only, saturates there, and makes the result
    int16, so that a softmax behind it gives 0.
    """

    far: bool = False

    @classmethod
    def of(cls, *args: Any, **kwargs: Any) -> Choice:
        """The module for a call with these arguments, where torch.fx has nodes for tensors."""
        made = cls()
        _, *sides = _arguments(args, kwargs)
        made.widen(sides)
        return made

    def widen(self, sides: Any) -> None:
        """Take int16 if a side is a fill that is far away."""
        self.far = any(_is_far(side) for side in sides)
        self.result_dtype = qint16 if self.far else None

    def masked(self, x: Any, mask: Any, value: float) -> Any:
        """`x` with `value` where the mask is True."""
        return self.call("masked_fill", torch.masked_fill, (x, mask, value), {})

    def call(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute the choice as torch.where."""
        del func
        return super().call("where", torch.where, _operands(name, args, kwargs), {})

    def finish(self, name: str, y: Any, reads: Any) -> Any:
        """Quantize; while a range is observed, far values stand just outside of the others'."""
        quantizer = self.output_quantizer
        if self.far and quantizer is not None and quantizer.state in _OBSERVING:
            beyond = y.abs() >= FAR
            near = torch.where(beyond, torch.zeros_like(y), y)
            y = torch.where(beyond, torch.sign(y) * (near.detach().abs().max() + GAP), near)
        return super().finish(name, y, reads)


class MaskForm(Choice):
    """x + mask, where a constant mask holds what only says "never": it chooses like masked_fill.

    Whatever else the constant holds, such as a bias of the position, is added first, by `added`.
    """

    sign = 1.0

    @classmethod
    def of(cls, *args: Any, **kwargs: Any) -> FloatFunctional:
        """The choice, or what an addition is otherwise."""
        if not kwargs and len(args) == 2 and any(_is_given(a) for a in args):
            return GivenForm()
        constants = [a for a in args if isinstance(a, torch.Tensor) and is_constant(a)]
        subtracted = cls.sign < 0 and constants and args[0] is constants[0]
        if kwargs or len(args) != 2 or len(constants) != 1 or subtracted:
            return ConstantForm.of(*args, **kwargs)
        value = cls.sign * constants[0]
        if not is_mask(value):
            return ConstantForm.of(*args, **kwargs)
        return cls.leaving_out(only=_is_only_mask(value))

    @classmethod
    def leaving_out(cls, *, only: bool = False) -> MaskForm:
        """The module of a constant that hides places; `only`: it holds 0 elsewhere."""
        made = cls()
        made.widen((-FAR,))
        if not only:
            made.add_module("added", ConstantForm())
        return made

    def call(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Choose by the mask."""
        if name != ("add" if self.sign > 0 else "sub"):
            return super().call(name, func, args, kwargs)
        x, mask = args if isinstance(args[0], QTensor) else reversed(args)
        value = self.sign * mask
        if "added" not in self._modules:
            return self.masked(x, value <= -MASKS, -torch.inf)
        never = value <= -FAR
        rest = torch.where(never, torch.zeros_like(value), value)
        return self.masked(self._modules["added"].add(x, rest), never, -torch.inf)


class SubtractedMaskForm(MaskForm):
    """x − mask."""

    sign = -1.0


def is_mask(value: torch.Tensor) -> bool:
    """Whether a constant that is added hides places: it holds what is as far away as nothing else."""
    return value.is_floating_point() and (_is_only_mask(value) or bool((value <= -FAR).any()))


def _is_only_mask(value: torch.Tensor) -> bool:
    never = value <= -MASKS
    return bool(never.any()) and bool((never | (value == 0)).all())


def _is_given(value: Any) -> bool:
    """Whether an operand is a float tensor that is not quantized and depends on the model's inputs."""
    plain = isinstance(value, torch.Tensor) and not isinstance(value, QTensor) and value.is_floating_point()
    node = hasattr(value, "all_input_nodes") and not value.meta.get("quantized")
    return (plain or node) and not is_constant(value)


_OBSERVING = (FakeQuantState.CALIBRATION, FakeQuantState.QAT)


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, Any]:
    """(condition, x, y) of torch.where, or of masked_fill whose first operand is the tensor."""
    if len(args) + len(kwargs) != 3:
        raise QTensorError(
            f"{here()}: where and masked_fill must have three operands, not {len(args) + len(kwargs)}; "
            "torch.where(condition) gives indices, which depend on the data"
        )
    if "mask" in kwargs or "value" in kwargs or (args and not _is_condition(args[0])):
        x, *rest = args
        mask = kwargs["mask"] if "mask" in kwargs else rest.pop(0)
        value = kwargs["value"] if "value" in kwargs else rest.pop(0)
        return mask, value, x
    names = ("condition", "input", "other")
    return tuple(args[i] if i < len(args) else kwargs[n] for i, n in enumerate(names))


def _is_condition(value: Any) -> bool:
    if isinstance(value, QTensor):
        return False
    if isinstance(value, torch.Tensor):
        return bool(value.dtype == torch.bool)
    return not value.meta.get("quantized", False) if hasattr(value, "meta") else True


def _operands(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Operands of torch.where; numbers become float32 scalars."""
    if name == "masked_fill":
        mask, value, x = _arguments(args, kwargs)
        operands = mask, value, x
    else:
        operands = _arguments(args, kwargs)
    condition, *sides = operands
    x, y = (v if isinstance(v, torch.Tensor) else torch.tensor(float(v)) for v in sides)
    return condition, x, y


def _is_far(value: Any) -> bool:
    if isinstance(value, (int, float)):
        return abs(float(value)) >= FAR
    if isinstance(value, torch.Tensor) and not isinstance(value, QTensor) and value.is_floating_point():
        return bool((value.detach().abs() >= FAR).any())
    return False
