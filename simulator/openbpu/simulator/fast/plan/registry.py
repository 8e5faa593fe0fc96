"""Who plans which operator, and with kernels of which families: registered where the plan is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from openbpu.arch.program import Operator
from openbpu.simulator.fast.plan.steps import Lowering

Function = TypeVar("Function", bound=Callable[..., None])

VECTOR = "vector"
"""Stands for the family of vector kernels of the kernel mode."""

LOWER: dict[type[Operator], Callable[[Any, Lowering], None]] = {}
FAMILIES: dict[type[Operator], tuple[str, ...]] = {}
"""The families of kernels that may run an operator."""


def lowers(operator: type[Operator], *families: str) -> Callable[[Function], Function]:
    """Register `plan(operator, lowering)`, which appends steps of kernels of these families."""

    def register(function: Function) -> Function:
        LOWER[operator], FAMILIES[operator] = function, families
        return function

    return register


def families_of(kinds: Iterable[type[Operator]], mode: str) -> tuple[str, ...]:
    """Return the families of kernels that a segment with operators of these kinds loads."""
    wanted = {"run", *(family for kind in kinds for family in FAMILIES[kind])}
    return tuple(sorted(f"vector_{mode}" if family == VECTOR else family for family in wanted))
