"""What only says "never" in front of a softmax, and the ranges that follow: exp(−16) is nothing.

    scores ──┐                           range of the sum while it is observed:
    mask ────┴ add → softmax             [least score that is not masked − GAP, largest score]

A fill of −30 or of −1e9 costs a range no more than GAP, and saturates. `prepare.masks` finds the operators.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

GAP = 16.0
"""What is masked lies so far below the values: exp(−16) is below every step of a softmax."""

SURE = 1e3
"""An operand that goes so low masks."""

REACH = 500.0
"""How far a mask's own range goes beyond what else it holds: further than scores differ, in steps of 1/64."""


def never(value: torch.Tensor, *, chosen: bool) -> torch.Tensor:
    """Where `value` masks: at SURE and below, and at the lower of two values that are GAP apart.

    `chosen`: it stands in a choice, where one value alone masks too. Returns bool, of the shape of `value`.
    """
    if not value.numel():
        return torch.zeros_like(value, dtype=torch.bool)
    low, high = torch.aminmax(value)
    alone = bool(low <= -GAP) and bool(((value == low) | (value == high)).all())
    if alone and (bool(high > low) or chosen):
        return (value == low) | (value <= -SURE)
    return value <= -SURE


@dataclass(frozen=True, slots=True)
class Hiding:
    """How an operator in front of a softmax observes its result.

    factor: what a softmax reads is so many times the result. signs: of the operands that mask, by position;
    none where what is masked was hidden further in front.
    """

    factor: float
    signs: Mapping[int, int]

    def near(self, name: str, args: tuple[Any, ...], y: torch.Tensor, quantizer: Any) -> torch.Tensor:
        """Return the result `y` with what is masked GAP below the rest (above it for a negative factor)."""
        hidden = torch.zeros_like(y, dtype=torch.bool)
        for position, sign in self.signs.items():
            hidden |= _masked(name, args, position, math.copysign(sign, sign * self.factor))
        side = math.copysign(1.0, self.factor)
        values = side * y
        seen = values.detach()[~hidden]
        floor = (seen.min() if seen.numel() else values.new_zeros(())) - GAP / abs(self.factor)
        if not bool(hidden.any()):  # a mask that hides nothing yet will some day
            quantizer.observe(side * floor.reshape(1))
        return side * torch.where(hidden, torch.maximum(values, floor), values)


def _masked(name: str, args: tuple[Any, ...], position: int, sign: float) -> torch.Tensor:
    operand = args[position]
    value = sign * torch.as_tensor(operand).detach()
    if name != "where":
        return never(value, chosen=False)
    found: torch.Tensor = never(value, chosen=True) & (args[0] if position == 1 else ~args[0])
    return found


@dataclass(frozen=True, slots=True)
class Whole:
    """How a tensor that a mask is computed from is observed: whole numbers stay exact, so that 1 − 1 is 0."""

    largest: int

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the values that the range comes from: a step of whole numbers is a power of two."""
        x = x.detach().clamp(-1e9, 1e9)
        top = float(x.abs().max()) if x.numel() else 0.0
        if not bool((x == x.round()).all()) or top > self.largest:
            return x
        step = 2.0 ** math.ceil(math.log2((top or 1.0) / self.largest))
        half = step * (self.largest + 0.5)
        return x.new_tensor([-half, half])


@dataclass(frozen=True, slots=True)
class Fill:
    """How a mask itself is observed: what is far away, now or some day, is REACH beyond what else it holds.

    Only a mask of two near values, such as 0 and −30, needs no more than these.
    """

    largest: int

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the values that the range comes from."""
        size = x.detach().abs()
        near = size[size < SURE]
        top = near.max() if near.numel() else size.new_zeros(())
        if near.numel() < size.numel() or not bool(never(-size, chosen=False).any()):
            top = top + REACH
        return Whole(self.largest)(torch.stack([-top, top]))
