"""All operators become steps: which kernel, how many units, which arguments. Done once per segment.

Whatever folder here has a `plan.py` is loaded, and registers itself: no list is kept by hand.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from openbpu.arch.definition.rooms import require_total
from openbpu.simulator.fast.plan.registry import PLANS, families_of
from openbpu.simulator.fast.plan.steps import Lowering

__all__ = ["PLANS", "families_of", "lower_segment"]

_PACKAGE = "openbpu.simulator.fast"

for _plan in sorted(Path(__file__).parent.glob("*/plan.py")):
    import_module(f"{_PACKAGE}.{_plan.parent.name}.plan")
require_total(_PACKAGE, PLANS)


def lower_segment(low: Lowering) -> None:
    """Fill `low` with the steps of all operators; inputs live from the start and outputs to the end."""
    for tensor_id in low.segment.inputs:
        low.read(tensor_id)
    for index, operator in enumerate(low.segment.operators):
        low.now = index
        PLANS[type(operator)].lower(operator, low)
    low.now = len(low.segment.operators)
    for tensor_id in low.segment.outputs:
        low.read(tensor_id)
