"""The search: several schedules of a segment are made, and the best by the timing of its code is kept.

Estimates choose tile shapes and what stays on chip; what is best for single layers need not be for all of
them, and no estimate knows what engines and cores wait for in the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from openbpu.arch.events import Queues
from openbpu.arch.isa import Code
from openbpu.arch.program import Operator
from openbpu.arch.timing import instruction_costs
from openbpu.compiler.schedule.memory.off_chip import OffChipAddresses, OffChipAllocator
from openbpu.compiler.schedule.problem.options import FASTEST, ScheduleOptions
from openbpu.compiler.schedule.search.segment_plan import SegmentPlan
from openbpu.compiler.schedule.search.segment_planner import SegmentPlanner
from openbpu.compiler.schedule.tiling.policy import Policy

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
class Configuration:
    """How a schedule is made: cores that share the work, balance that tilings are judged by, bytes of L2M."""

    cores: int
    balance: int
    l2m_bytes: int


def configurations(options: ScheduleOptions) -> list[Configuration]:
    """The configurations to try, with fewer cores and without the L2M first: the first of equals is kept.

    The same for every balance that is asked for, and all that fewer cores or no L2M would try: so a lower
    balance never means more DDR bytes, nor a higher one, another core or the L2M more time.
    """
    found = []
    for cores in range(1, options.cores + 1):
        for l2m_bytes in sorted({0, options.l2m_bytes}):
            balances = _LADDER if cores == 1 else _ENDS
            found += [Configuration(cores, balance, l2m_bytes) for balance in balances]
    return found


@dataclass(frozen=True, slots=True)
class FinishedSchedule:
    """A schedule with its code: that of the cores that do something.

    chip_bytes: on-chip memory used by the core that uses most · ddr_bytes: loaded and stored by all cores.
    """

    plan: SegmentPlan
    allocator: OffChipAllocator
    addresses: OffChipAddresses
    code: tuple[Code, ...]
    chip_bytes: int
    ddr_bytes: int


@dataclass(frozen=True, slots=True)
class ScheduleSearch:
    """Makes the schedules that a segment may have, and keeps the best.

    `policy` and `allocator` are those of the options asked for, without the L2M.
    """

    planner: SegmentPlanner
    operators: Sequence[Operator]
    policy: Policy
    allocator: OffChipAllocator

    def best(self, tried: Sequence[Configuration]) -> FinishedSchedule:
        """The schedule that is best by the balance of `policy`, of those that the configurations make.

        Raises CompileError where even the smallest tile of an operator does not fit on chip.
        """
        made: list[FinishedSchedule] = []
        plans: list[tuple[SegmentPlan, OffChipAddresses]] = []
        fewest: float = math.inf
        for policy, allocator, plan, addresses in chain.from_iterable(map(self._planned, tried)):
            if (plan, addresses) in plans:
                continue
            plans.append((plan, addresses))
            if plan.tiles > max(_MANY_TILES, _TIMES_AS_MANY * fewest):
                continue
            fewest = min(fewest, plan.tiles)
            flat = allocator.flat_addresses(addresses, self.planner.jobs)
            emitters = plan.emit(flat, allocator.ddr_base, policy)
            code = tuple([e.code() for e in emitters])
            chip_bytes, ddr_bytes = max(e.chip_bytes for e in emitters), sum(e.ddr_bytes for e in emitters)
            made.append(FinishedSchedule(plan, allocator, addresses, code, chip_bytes, ddr_bytes))
        if len(made) == 1:
            return made[0]
        return min(made, key=lambda s: self.policy.rank(self._cycles(s), s.ddr_bytes))

    def _planned(
        self, configuration: Configuration
    ) -> Iterator[tuple[Policy, OffChipAllocator, SegmentPlan, OffChipAddresses]]:
        """The plans of a configuration: one, or with the L2M two.

        The first does not know what the L2M will hold, and says it; the second does, and is as a rule the
        better one: but tiles that are cheaper by estimate can wait longer for each other.
        """
        policy = replace(self.policy, balance=configuration.balance)
        allocator = replace(self.allocator, l2m_end=configuration.l2m_bytes)
        cores, l2m_bytes = configuration.cores, max(configuration.l2m_bytes - allocator.l2m_start, 0)
        plan = self.planner.plan(cores, l2m_bytes, policy)
        addresses = allocator.allocate(plan.live_ranges, plan.moved(), reuse=policy.reuse)
        yield policy, allocator, plan, addresses
        if addresses.l2m:
            policy = replace(policy, in_l2m=frozenset(addresses.l2m))
            plan = self.planner.plan(cores, l2m_bytes, policy)
            addresses = allocator.allocate(
                plan.live_ranges, plan.moved(), reuse=policy.reuse, l2m_only=policy.in_l2m
            )
            yield policy, allocator, plan, addresses

    def _cycles(self, finished: FinishedSchedule) -> int:
        """The cycles of a schedule, as the timing simulator counts them."""
        march = self.policy.march
        costs = [instruction_costs(c, self.operators, self.planner.tensors, march) for c in finished.code]
        return Queues(finished.code, march, "schedule").cycles(costs)
