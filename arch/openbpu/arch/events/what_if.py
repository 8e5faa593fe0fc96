"""What a segment would take if some instructions cost something else: only what changes is timed anew."""

from __future__ import annotations

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.arch.events.marks import COMPARE, EVERY, MARKS, PLANNED, TOTAL
from openbpu.arch.events.queues import COMPARED, RESULTS, Queues
from openbpu.arch.events.slack import slack_of

_MARKS_BYTES = 1 << 24
"""Memory for the marks of a run: more find the places to begin and stop a little sooner."""


class WhatIf:
    """A run of the event engine that can be varied: costs by position, and the cycles they take.

    A change of a few instructions is timed from the last mark before them to the first one behind them from
    which on each queue only goes on later or sooner, so its time hardly grows with the segment. `tables`:
    what the kernel runs on, and writes the starts of what it timed to.
    """

    def __init__(self, queues: Queues, costs: tuple[Int64, Int64], *, runs: int = 1) -> None:
        """`costs`: engine time and memory time by position · `runs`: how many changes will be asked for."""
        self.costs = costs
        self._first = queues.first
        count = len(queues.first) - 1
        transfers = int(np.count_nonzero(costs[1])) + 2
        every = -(-transfers * 8 * (2 + 4 * count + count**2) // _MARKS_BYTES)
        marks = np.zeros((transfers // every + 1) * (2 + 3 * count), dtype=np.int64)
        plan = np.zeros(PLANNED + 2 * count, dtype=np.int64)
        plan[EVERY] = every
        mine = (costs[0].copy(), costs[1].copy())
        tables = queues.tables(mine, marks, plan)
        queues.fill_in(tables, runs)
        self.cycles = int(plan[TOTAL])
        self._issue, self._memory, self._plan = *mine, plan
        start, end, cause = tables[RESULTS][:3]
        heads = marks.reshape(-1, 2 + 3 * count)[: plan[MARKS], 2 : 2 + count]
        before = (end.copy(), start.copy(), cause.copy())
        again = list(tables)
        again[COMPARED] = *before, slack_of(queues, costs, (start, end, cause), heads).reshape(-1)
        plan[EVERY], plan[COMPARE] = 0, 1
        self.tables = tuple(again)
        self._run = queues.engine_of(self.tables, runs)

    def cycles_with(self, costs: tuple[Int64, Int64], positions: Int64) -> int:
        """Return the cycles if these positions, in ascending order, cost this instead."""
        if not len(positions):
            return self.cycles
        plan, count = self._plan, len(self._first) - 1
        bounds = np.searchsorted(positions, self._first)
        touched = bounds[:-1] < bounds[1:]
        plan[PLANNED : PLANNED + count] = np.where(
            touched, positions[np.minimum(bounds[:-1], len(positions) - 1)], self._first[1:]
        )
        plan[PLANNED + count :] = np.where(touched, positions[bounds[1:] - 1] + 1, 0)
        self._issue[positions], self._memory[positions] = costs[0][positions], costs[1][positions]
        self._run()
        self._issue[positions], self._memory[positions] = (c[positions] for c in self.costs)
        return int(plan[TOTAL])
