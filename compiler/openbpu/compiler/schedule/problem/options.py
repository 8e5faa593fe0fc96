"""What the user asks of a schedule: level, balance, L2M and cores."""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = (0, 1, 2)
"""Optimisation levels; `driver.schedule` says what each one does."""
FASTEST = 100
"""The balance that weighs latency alone; 0 weighs DDR bytes, latency only between schedules of as many."""


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """How a schedule is made and judged.

    opt: optimisation level · balance: weight between DDR bytes (0) and latency (100) · l2m_bytes: how much of
    the L2M tensors may take · cores: how many cores may share the work of every layer.
    """

    opt: int = 2
    balance: int = FASTEST
    l2m_bytes: int = 0
    cores: int = 1
