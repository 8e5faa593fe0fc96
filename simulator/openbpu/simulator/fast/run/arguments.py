"""The table of steps that `run.workspace` fills and `run.kernels` walks."""

from __future__ import annotations

from typing import Annotated, Any

from openbpu.simulator.fast.declaration import Code, Record, Words

COUNTERS = 16
"""int64 between the counters of two steps: chunks taken and chunks done, each in a cache line of its own."""


class StepRow(Record):
    """One step."""

    kernel: Code
    units: int
    chunks: int
    """Pieces that threads take."""
    arguments: Annotated[Any, Words(37)]
    """The record of the kernel's own Arguments."""
