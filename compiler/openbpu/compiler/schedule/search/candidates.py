"""Finished schedules of one segment: several are made, and the best by the timing of its code is kept.

Estimates choose tile shapes and what stays on chip; what is best for single layers need not be for all of
them, and no estimate knows what engines and cores wait for in the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from openbpu.arch.events import Queues
from openbpu.arch.isa import Code
from openbpu.arch.program import Operator
from openbpu.arch.timing import instruction_costs
from openbpu.compiler.schedule.memory.off_chip import Addresses, Memories
from openbpu.compiler.schedule.problem.options import FASTEST, Effort
from openbpu.compiler.schedule.search.segment import Split, Work
from openbpu.compiler.schedule.tiling.cost import Rules

_LADDER = (FASTEST, 60, 30, 0)
"""Balances that one core's schedules are made for."""
_ENDS = (FASTEST, 0)
"""Balances that those of several cores are made for."""
_MANY_TILES = 10_000
_TIMES_AS_MANY = 16
"""A schedule of more than `_MANY_TILES` and so many times the tiles of another is not finished: a tensor that
leaves next to no memory cuts its neighbours into crumbs, whose tokens take minutes.
"""


@dataclass(frozen=True, slots=True)
class Way:
    """How a schedule is made: cores that share the work, what its plans are judged by, L2M it may use."""

    cores: int
    balance: int
    l2m_bytes: int


def ways(effort: Effort) -> list[Way]:
    """What is tried, with fewer cores and without the L2M first: the first of equals is kept.

    The same for every balance that is asked for, and all that less effort would try: so a lower balance never
    means more DDR bytes, nor a higher one, another core or the L2M more time.
    """
    rooms = sorted({0, effort.l2m_bytes})
    alone = [Way(1, balance, room) for room in rooms for balance in _LADDER]
    several = range(2, effort.cores + 1)
    return [*alone, *(Way(cores, balance, room) for cores in several for room in rooms for balance in _ENDS)]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A finished schedule: instructions of the cores that do something, on-chip bytes of the core that uses
    most, DDR bytes that all load and store.
    """

    split: Split
    addresses: Addresses
    memories: Memories
    code: tuple[Code, ...]
    chip_bytes: int
    ddr_bytes: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """The schedules that a segment may have. `addresses`: without the L2M."""

    work: Work
    operators: Sequence[Operator]
    rules: Rules
    addresses: Addresses

    def best(self, tried: Sequence[Way]) -> Attempt:
        """The attempt that is best by the balance of `rules`.

        Raises CompileError where even the smallest tile of an operator does not fit on chip.
        """
        made: list[Attempt] = []
        drafts: list[tuple[Split, Memories]] = []
        fewest: float = math.inf
        for way in tried:
            rules, addresses, split, memories = self._draft(way)
            if (split, memories) in drafts:
                continue
            drafts.append((split, memories))
            if split.tiles > max(_MANY_TILES, _TIMES_AS_MANY * fewest):
                continue
            fewest = min(fewest, split.tiles)
            emitters = split.emit(addresses.flat(memories, self.work.jobs), addresses.ddr_base, rules)
            code = tuple([e.code() for e in emitters])
            chip_bytes, ddr_bytes = max(e.chip_bytes for e in emitters), sum(e.ddr_bytes for e in emitters)
            made.append(Attempt(split, addresses, memories, code, chip_bytes, ddr_bytes))
        if len(made) == 1:
            return made[0]
        return min(made, key=lambda a: self.rules.rank(self._cycles(a), a.ddr_bytes))

    def _draft(self, way: Way) -> tuple[Rules, Addresses, Split, Memories]:
        """What is done where; made again once it is known what is in the L2M."""
        rules = replace(self.rules, balance=way.balance)
        addresses = replace(self.addresses, l2m_end=way.l2m_bytes)
        split = self._split(way, rules)
        memories = addresses.choose(split.uses, split.outside(), reuse=rules.reuse)
        if memories.l2m:
            rules = replace(rules, shared=frozenset(memories.l2m))
            split = self._split(way, rules)
            memories = addresses.choose(split.uses, split.outside(), reuse=rules.reuse, near=rules.shared)
        return rules, addresses, split, memories

    def _split(self, way: Way, rules: Rules) -> Split:
        if way.cores == 1:
            return self.work.on_one(rules)
        return self.work.on_several(way.cores, max(way.l2m_bytes - self.addresses.l2m_start, 0), rules)

    def _cycles(self, attempt: Attempt) -> int:
        """The cycles of an attempt, as the timing simulator counts them."""
        march = self.rules.march
        costs = [instruction_costs(c, self.operators, self.work.tensors, march) for c in attempt.code]
        return Queues(attempt.code, march, "schedule").cycles(costs)
