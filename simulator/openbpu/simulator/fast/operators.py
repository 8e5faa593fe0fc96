"""All operators become steps: which kernel, how many units, which arguments. Done once per segment."""

from __future__ import annotations

from openbpu.arch.program import OPERATORS
from openbpu.simulator.fast.conv import plan as conv
from openbpu.simulator.fast.elementwise import plan as elementwise
from openbpu.simulator.fast.matmul import plan as matmul
from openbpu.simulator.fast.moves import plan as moves
from openbpu.simulator.fast.plan.registry import FAMILIES, LOWER, families_of
from openbpu.simulator.fast.plan.steps import Lowering
from openbpu.simulator.fast.rows import plan as rows
from openbpu.simulator.fast.windows import plan as windows

__all__ = ["FAMILIES", "LOWER", "families_of", "lower_segment"]

PLANS = (conv, elementwise, matmul, moves, rows, windows)
"""The modules that register plans."""


def _check_total() -> None:
    missing = [operator.__name__ for operator in OPERATORS if operator not in LOWER]
    if missing:
        names = ", ".join(sorted(missing))
        raise NotImplementedError(
            f"fast simulator: no plan for {names}; write one with @lowers in {_rooms()}"
        )


def _rooms() -> str:
    return ", ".join(plan.__name__ for plan in PLANS)


_check_total()


def lower_segment(low: Lowering) -> None:
    """Fill `low` with the steps of all operators; inputs live from the start and outputs to the end."""
    for tensor_id in low.segment.inputs:
        low.read(tensor_id)
    for index, operator in enumerate(low.segment.operators):
        low.now = index
        LOWER[type(operator)](operator, low)
    low.now = len(low.segment.operators)
    for tensor_id in low.segment.outputs:
        low.read(tensor_id)
