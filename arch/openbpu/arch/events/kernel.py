"""The event engine: queues, tokens and shared memory, in integer cycles.

`run` is written so that it means the same to Python (lists) and to numba (arrays): plain loops over integers.
"""

from __future__ import annotations

from typing import Any

SHARES = 720720
"""Memory time is counted in 1/720720 cycles, which 1 to 16 transfers under way divide evenly."""

Ints = Any  # list[int] for Python, int64 array for numba


def run(  # noqa: C901, PLR0912, PLR0913, PLR0915, PLR0917 - one loop nest, for numba and Python alike
    first: Ints,
    dep_first: Ints,
    deps: Ints,
    issue: Ints,
    memory: Ints,
    fill: Ints,
    start: Ints,
    end: Ints,
    cause: Ints,
    scratch: Ints,
) -> int:
    """Fill start, end and cause of every instruction; returns how many could not run (0 unless deadlocked).

    Instructions are sorted by queue: queue q owns positions first[q]..first[q+1]−1, in order. Position p
    starts once position p−1 of its queue ended and, for each d in deps[dep_first[p]:dep_first[p+1]], token d
    came: at end[d] + fill[queue of d] (`fill` is per position). Its engine time is issue[p] and, if memory[p]
    > 0, a transfer of memory[p] cycles at full rate, of which each of k transfers under way gets 1/k. start,
    end and cause come as −1; scratch is 5·queues + instructions, all −1.

    Ends of other instructions are final as soon as they are known, whatever the order of discovery. Only
    transfers need time order: the earliest arrival or completion known is handled next, and everything that
    is not known yet waits for one of them.
    """
    queues = len(first) - 1
    head, next_waiter, arrival = 0, queues, 2 * queues  # offsets into scratch
    left, stack, waiter = 3 * queues, 4 * queues, 5 * queues
    top = 0
    for q in range(queues):
        scratch[head + q] = first[q]
        scratch[stack + top] = q
        top += 1
    now = 0
    under_way = 0
    while True:
        # 1. Everything that can be known without moving the memory's clock.
        while top > 0:
            top -= 1
            q = scratch[stack + top]
            while scratch[head + q] < first[q + 1]:
                p = scratch[head + q]
                ready = 0
                if p > first[q]:
                    ready = end[p - 1]
                blocked = -1
                late = -1
                for i in range(dep_first[p], dep_first[p + 1]):
                    d = deps[i]
                    if end[d] < 0:
                        blocked = d
                        break
                    token = end[d] + fill[d]
                    if token > ready:
                        ready = token
                        late = d
                if blocked >= 0:
                    scratch[next_waiter + q] = scratch[waiter + blocked]
                    scratch[waiter + blocked] = q
                    break
                start[p] = ready
                cause[p] = late
                if memory[p] > 0:
                    scratch[arrival + q] = ready + issue[p]
                    break
                end[p] = ready + issue[p]
                scratch[head + q] += 1
                w = scratch[waiter + p]
                while w >= 0:
                    scratch[stack + top] = w
                    top += 1
                    w = scratch[next_waiter + w]
        # 2. The next event of the memory: a transfer begins or ends.
        event = -1
        for q in range(queues):
            at = scratch[arrival + q]
            if at < 0 and scratch[left + q] > 0:
                share = SHARES // under_way
                at = now + (scratch[left + q] + share - 1) // share
            if at >= 0 and (event < 0 or at < event):
                event = at
        if event < 0:
            break
        if under_way > 0:
            gained = (event - now) * (SHARES // under_way)
            for q in range(queues):
                if scratch[left + q] <= 0:
                    continue
                scratch[left + q] -= gained
                if scratch[left + q] > 0:
                    continue
                scratch[left + q] = -1
                under_way -= 1
                p = scratch[head + q]
                end[p] = event
                scratch[head + q] += 1
                scratch[stack + top] = q
                top += 1
                w = scratch[waiter + p]
                while w >= 0:
                    scratch[stack + top] = w
                    top += 1
                    w = scratch[next_waiter + w]
        now = event
        for q in range(queues):
            if scratch[arrival + q] == now:
                scratch[arrival + q] = -1
                scratch[left + q] = memory[scratch[head + q]] * SHARES
                under_way += 1
    stuck = 0
    for q in range(queues):
        stuck += first[q + 1] - scratch[head + q]
    return stuck
