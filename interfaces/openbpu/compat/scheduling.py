"""Priorities and cores as the board's interfaces take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openbpu.arch.errors import InputError, must

HIGHEST = 255


def check_scheduling(priority: Any, cores: Sequence[Any], there: int) -> None:
    """Raise InputError for a priority that is not in 0..255, and for a core beyond those there are."""
    if not isinstance(priority, int) or not 0 <= priority <= HIGHEST:
        raise InputError(must("scheduling", "priority", f"0..{HIGHEST}", priority))
    for core in cores:
        if not isinstance(core, int) or not 0 <= core < there:
            fix = "`openbpu march NAME` tells how many cores a march has"
            raise InputError(must("scheduling", "a BPU core", f"0..{there - 1}", core, fix))
