"""Who plans which operator, and with kernels of which families: registered where the plan is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from openbpu.arch.definition.rooms import Room
from openbpu.arch.program import OPERATORS, Operator
from openbpu.simulator.fast.plan.steps import Lowering

Function = TypeVar("Function", bound=Callable[..., None])

VECTOR = "vector"
"""Stands for the family of vector kernels of the kernel mode."""

_FAST = "openbpu.simulator.fast"


@dataclass(frozen=True, slots=True)
class Plan:
    """`lower(operator, lowering)` appends steps; `families` are those of the kernels that may run them."""

    lower: Callable[[Any, Lowering], None]
    families: tuple[str, ...]


PLANS: Room[type[Operator], Plan] = Room(
    "the plan of the fast mode", OPERATORS, _FAST, decorator="a function under @lowers({}, …)"
)


def lowers(operator: type[Operator], *families: str) -> Callable[[Function], Function]:
    """Register a function as the plan of an operator, by kernels of these families."""

    def register(function: Function) -> Function:
        PLANS.put(operator, Plan(function, families), function.__module__)
        return function

    return register


def families_of(kinds: Iterable[type[Operator]], mode: str) -> tuple[str, ...]:
    """Return the families of kernels that a segment with operators of these kinds loads."""
    wanted = {"run", *(family for kind in kinds for family in PLANS[kind].families)}
    return tuple(sorted(f"vector_{mode}" if family == VECTOR else family for family in wanted))
