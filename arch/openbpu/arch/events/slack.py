"""How much later one queue may be than another, from a mark on, before the other notices.

Where queue a is by δa later than it was, and queue b by δb, what is left of b goes on as it did, δb later,
if δa − δb is at most the time by which each token of a came too early for b, and 0 where b started with the
token. A transfer of b that began when one of a had ended must not meet it; two that were under way together
must still be.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.arch.events.marks import NONE
from openbpu.arch.events.queues import Queues

_EQUAL = -1

_Run = tuple[Int64, Int64, Int64]
_Noted = tuple[Int64 | int, Int64 | int, Int64, Int64]
"""Of some positions: the queue that may be later, the one that may notice, the position, how much."""


def slack_of(queues: Queues, costs: tuple[Int64, Int64], run: _Run, heads: Int64) -> Int64:
    """Return by mark and queues (a, b) how much later than b queue a may be at most, −1 for neither later
    nor sooner; and, as one more a, the first position of b whose token is still to be read.

    int64 [marks, queues + 1, queues].

    costs: engine time and memory time by position · run: start, end and cause · heads: by mark and queue, the
    next position.
    """
    count = len(queues.first) - 1
    slack = np.full((len(heads), count + 1, count), NONE, dtype=np.int64)
    for a, b, position, most in (*_tokens(queues, run), *_transfers(queues, costs, run)):
        last = _last_mark(queues, heads, position)
        ahead = last >= 0
        pair = [np.broadcast_to(q, len(last))[ahead] for q in (a, b)]
        np.minimum.at(slack, (last[ahead], *pair), most[ahead])
    return np.minimum.accumulate(slack[::-1], axis=0)[::-1]


def _last_mark(queues: Queues, heads: Int64, positions: Int64) -> Int64:
    """The last mark at which a position is still to come, −1 for none."""
    found = np.zeros(len(positions), dtype=np.int64)
    queue = _queue_of(queues, positions)
    for q in range(heads.shape[1]):
        found[queue == q] = np.searchsorted(heads[:, q], positions[queue == q], side="right") - 1
    return found


def _queue_of(queues: Queues, positions: Int64) -> Int64:
    found: Int64 = np.searchsorted(queues.first, positions, side="right") - 1
    return found


def _tokens(queues: Queues, run: _Run) -> Iterator[_Noted]:
    start, end, cause = run
    position = np.repeat(np.arange(len(start)), np.diff(queues.dep_first))
    yield len(queues.first) - 1, queues.dep_queue, position, queues.deps
    early = start[position] - end[queues.deps] - queues.fill[queues.deps]
    most = np.where(cause[position] == queues.deps, _EQUAL, early)
    yield queues.dep_queue, _queue_of(queues, position), position, most


def _transfers(queues: Queues, costs: tuple[Int64, Int64], run: _Run) -> Iterator[_Noted]:
    issue, memory = costs
    start, end, _ = run
    moving = np.flatnonzero(memory > 0)
    queue = _queue_of(queues, moving)
    arrival = start + issue
    by_queue = {int(q): moving[queue == q] for q in np.unique(queue)}
    for a, mine in by_queue.items():
        for b, theirs in by_queue.items():
            if a == b:
                continue
            before = np.searchsorted(arrival[mine], arrival[theirs], side="right") - 1
            first, second = mine[before[before >= 0]], theirs[before >= 0]
            gap = arrival[second] - end[first]
            together = gap < 0
            yield a, b, second, np.where(together, _EQUAL, gap)
            for position in (first[together], second[together]):
                yield a, b, position, np.full(len(position), _EQUAL)
                yield b, a, position, np.full(len(position), _EQUAL)
