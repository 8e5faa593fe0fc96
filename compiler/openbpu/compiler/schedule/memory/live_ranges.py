"""Live ranges: which jobs write and read every tensor.

Time is counted in moments: the position of a job (or of a fusion group) in the order that they run in.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol

from openbpu.arch.program import Space, Tensor
from openbpu.compiler.schedule.problem.byte_ranges import Interval
from openbpu.compiler.schedule.problem.job import Operand


@dataclass(frozen=True, slots=True)
class Boundary:
    """Tensors (by root) that are in DDR when the segment starts, and that must be in DDR when it ends."""

    live_in: AbstractSet[int]
    live_out: AbstractSet[int]


@dataclass(slots=True)
class LiveRange:
    """The moments at which the memory of tensor `root` is written and read, in order.

    live_in: it is in DDR before the segment starts · live_out: it must be in DDR when the segment ends.

    Where several cores share the work, this is one core's part: `low` is the first byte that it touches and
    `nbytes` how many it touches. written: the bytes that it writes itself, if other cores write the rest ·
    by_rows: what others write must be loaded only when a tile needs it, since it is not complete before ·
    exported: the bytes that other cores read, if only those must be stored.
    """

    root: int
    nbytes: int
    live_in: bool
    live_out: bool
    writes: list[int] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    low: int = 0
    written: Interval | None = None
    by_rows: bool = False
    exported: tuple[Interval, ...] | None = None

    @property
    def first(self) -> int:
        """The first moment at which it is written or read."""
        return min((*self.writes[:1], *self.reads[:1]))

    @property
    def last(self) -> int:
        """The last moment at which it is written or read."""
        return max((*self.writes[-1:], *self.reads[-1:]))


class Accessing(Protocol):
    """A job or a fusion group: something that reads and writes tensors at one moment."""

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Everything it reads and writes outside itself."""


def live_ranges_of(
    units: Sequence[Accessing], tensors: Sequence[Tensor], boundary: Boundary
) -> dict[int, LiveRange]:
    """The live range of every tensor but constants, by root, in order of first access.

    What no unit writes is live in; what a unit writes and the caller placed is live out.
    """
    out: dict[int, LiveRange] = {}
    for moment, unit in enumerate(units):
        for operand in unit.operands:
            root = operand.root
            if tensors[root].space is Space.CONST:
                continue
            life = out.get(root)
            if life is None:
                placed = root in boundary.live_out or tensors[root].address >= 0
                life = out[root] = LiveRange(root, tensors[root].nbytes, root in boundary.live_in, placed)
            moments = life.writes if operand.output else life.reads
            if not moments or moments[-1] != moment:
                moments.append(moment)
    for life in out.values():
        life.live_in = life.live_in or not life.writes
    return out
