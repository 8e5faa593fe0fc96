"""Marks of a run of the event engine: where one that differs begins, and from where on it only goes on later.

A mark is the state between two events of the memory, in one row of `marks`: the time, the number of
instructions that ended, and of every queue the next position, when its transfer arrives (−1: it does not)
and what is left of it (in `kernel.SHARES`; ≤ 0: nothing). Written like `kernel.run`, for Python and numba.
"""

from __future__ import annotations

from typing import Any

NONE = 1 << 62
"""No time."""
EVERY, MARKS, COMPARE, TOTAL, PLANNED = range(5)
"""Places in `plan`: see `kernel.run`."""
HEAD, NEXT_WAITER, ARRIVAL, LEFT, STACK, BLOCKED_BY, LATER, LEAST, MOST, WAITER = range(10)
"""Places in `scratch`, times the number of queues; all but the last are by queue, that one by position."""

Ints = Any  # list[int] for Python, int64 array for numba


def last_early(marks: Ints, plan: Ints, queues: int) -> int:
    """The last mark at which no changed position had begun; −1 for none."""
    width = 2 + 3 * queues
    mark, beyond = -1, plan[MARKS]
    while beyond - mark > 1:
        middle = (mark + beyond) // 2
        at = middle * width + 2
        early = True
        for q in range(queues):
            p = plan[PLANNED + q]
            waits = marks[at + queues + q] < 0 and marks[at + 2 * queues + q] <= 0
            if marks[at + q] > p or (marks[at + q] == p and not waits):
                early = False
                break
        if early:
            mark = middle
        else:
            beyond = middle
    return mark


def note(marks: Ints, plan: Ints, scratch: Ints, queues: int, now: int, done: int) -> None:
    """Add a mark."""
    at = plan[MARKS] * (2 + 3 * queues)
    marks[at] = now
    marks[at + 1] = done
    for q in range(queues):
        marks[at + 2 + q] = scratch[HEAD * queues + q]
        marks[at + 2 + queues + q] = scratch[ARRIVAL * queues + q]
        marks[at + 2 + 2 * queues + q] = scratch[LEFT * queues + q]
    plan[MARKS] += 1


def delayed(  # noqa: PLR0913, PLR0917 - the tables of the run
    mark: int,
    now: int,
    first: Ints,
    fill: Ints,
    known: Ints,
    causes: Ints,
    slack: Ints,
    end: Ints,
    scratch: Ints,
    marks: Ints,
    plan: Ints,
) -> bool:
    """Work out how much later than at a mark every queue is, where all are as far as they were; else False.

    Into scratch, by queue: LATER, of all that is to come (NONE: unknown) · LEAST and MOST, of what came,
    ahead of the time, and is still to be read.
    """
    queues = len(first) - 1
    at = mark * (2 + 3 * queues)
    clock = now - marks[at]
    for q in range(queues):
        p, arrives, left = (
            scratch[HEAD * queues + q],
            scratch[ARRIVAL * queues + q],
            scratch[LEFT * queues + q],
        )
        had = marks[at + 2 + queues + q]
        if (
            p != marks[at + 2 + q]
            or p < plan[PLANNED + queues + q]
            or left != marks[at + 2 + 2 * queues + q]
            or (arrives < 0) != (had < 0)
        ):
            return False
        late = NONE
        if left > 0:
            late = clock
        elif had >= 0:
            late = arrives - had
        elif first[q] < p < first[q + 1] and causes[p] < 0:
            late = end[p - 1] - known[p - 1]
        scratch[LATER * queues + q] = late
        least, most = NONE, -NONE
        p -= 1
        read = slack[(mark * (queues + 1) + queues) * queues + q]
        while p >= read and (end[p] + fill[p] > now or known[p] + fill[p] > now - clock):
            least, most = min(least, end[p] - known[p]), max(most, end[p] - known[p])
            p -= 1
        scratch[LEAST * queues + q], scratch[MOST * queues + q] = least, most
    for _ in range(queues):  # what waits for a queue goes with it
        for q in range(queues):
            p = scratch[HEAD * queues + q]
            if scratch[LATER * queues + q] == NONE and p < first[q + 1] and causes[p] >= 0:
                a = 0
                while first[a + 1] <= causes[p]:
                    a += 1
                scratch[LATER * queues + q] = scratch[LATER * queues + a]
    return True


def unnoticed(mark: int, now: int, first: Ints, starts: Ints, slack: Ints, end: Ints, scratch: Ints) -> bool:
    """Whether no queue notices how much later the others are, as `delayed` found: see `slack`."""
    queues = len(first) - 1
    for q in range(queues):
        p, late = scratch[HEAD * queues + q], scratch[LATER * queues + q]
        if p == first[q + 1]:
            continue
        if late == NONE:
            return False
        if scratch[ARRIVAL * queues + q] < 0 and scratch[LEFT * queues + q] <= 0:
            begins = starts[p] + late
            if begins < now or (p > first[q] and end[p - 1] > begins):
                return False
        for a in range(queues):
            early = slack[(mark * (queues + 1) + a) * queues + q]
            if a == q or early == NONE:
                continue
            low, high = scratch[LEAST * queues + a], scratch[MOST * queues + a]
            if scratch[LATER * queues + a] != NONE:
                low, high = min(low, scratch[LATER * queues + a]), max(high, scratch[LATER * queues + a])
            if low <= high and (high - late > max(early, 0) or (early < 0 and low < late)):
                return False
    return True
