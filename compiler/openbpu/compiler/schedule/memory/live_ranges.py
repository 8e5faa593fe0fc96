"""When each tensor of a segment is written and read, in units of the order that the jobs run in."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol

from openbpu.arch.program import Space, Tensor
from openbpu.compiler.schedule.problem.job import Operand

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Ends:
    """Roots that are in DDR before the segment starts, and those that must be there when it ends."""

    given: AbstractSet[int]
    kept: AbstractSet[int]


@dataclass(slots=True)
class Use:
    """Which jobs write and read the memory of a tensor, in order. `kept`: the segment's output needs it in
    DDR.

    Where several cores share the work, one core's use of it: `low` is the first byte and `nbytes` the number
    of those it touches; `own`: what it writes of them, if others write the rest (`by_rows`: that must be
    loaded when a tile needs it, since not all is there when the first does); `wanted`: the bytes it must hand
    on to others, if those are all that must be stored.
    """

    root: int
    nbytes: int
    given: bool  # in DDR before the segment starts
    kept: bool
    writes: list[int] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    low: int = 0
    own: Span | None = None
    by_rows: bool = False
    wanted: tuple[Span, ...] | None = None

    @property
    def first(self) -> int:
        """The first job that touches it."""
        return min((*self.writes[:1], *self.reads[:1]))

    @property
    def last(self) -> int:
        """The last job that touches it."""
        return max((*self.writes[-1:], *self.reads[-1:]))


class Operated(Protocol):
    """A job, or a group of jobs."""

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Everything it reads and writes outside itself."""


def uses_of(jobs: Sequence[Operated], tensors: Sequence[Tensor], ends: Ends) -> dict[int, Use]:
    """The uses of every dynamic memory by root, in order of first use.

    What nobody here writes is given; what the caller placed and somebody writes is kept.
    """
    out: dict[int, Use] = {}
    for moment, job in enumerate(jobs):
        for operand in job.operands:
            root = operand.root
            if tensors[root].space is Space.CONST:
                continue
            use = out.get(root)
            if use is None:
                placed = root in ends.kept or tensors[root].address >= 0
                use = out[root] = Use(root, tensors[root].nbytes, root in ends.given, placed)
            moments = use.writes if operand.output else use.reads
            if not moments or moments[-1] != moment:
                moments.append(moment)
    for use in out.values():
        use.given = use.given or not use.writes
    return out
