"""What a fuzzed subject is: cases made from a seed and a number, an outcome for each, or a fault."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

OUTCOMES = ("refused", "refused when run", "not run", "equal", "two programs")
"""What is allowed to happen to a case.

refused: OpenbpuError before anything ran · refused when run: OpenbpuError of either simulator or of a CPU
segment · not run: it asks for inputs or loops of any size · equal: both modes gave the same bits (and those
of the reference, where there is one) · two programs: a forger changed the instructions, or the operators they
were made from, so each mode ran its own.
"""
REFUSED, REFUSED_RUN, NOT_RUN, EQUAL, TWO_PROGRAMS = OUTCOMES


class FaultError(AssertionError):
    """What must never happen and raises nothing by itself: modes that differ, a file not written."""


@dataclass(frozen=True, slots=True)
class Case:
    """One input. kind: what was done to it · files: what somebody needs who wants to see it again."""

    kind: str
    files: Mapping[str, bytes]
    data: Any = field(repr=False)
    note: str = ""


class Subject(Protocol):
    """A way of making cases, and what has to be true of each."""

    @property
    def name(self) -> str:
        """The word for it on the command line."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """What may be done to a case: the rows of the table that is printed."""

    @property
    def cpu_seconds(self) -> float:
        """A case that takes more hangs."""

    def warm_up(self) -> None:
        """Load what every case needs, in the process that forks the ones that run them."""

    def make(self, seed: int, index: int) -> Case:
        """Return the case of this number: the same one each time."""

    def run(self, case: Case) -> str:
        """Return one of OUTCOMES; raises whatever is a fault."""


def rng_of(name: str, seed: int, index: int) -> random.Random:
    """All that is random in a case."""
    return random.Random(f"{name}/{seed}/{index}")
