"""The event engine: queues, tokens and shared memory, in integer cycles.

`run` is written so that it means the same to Python (lists) and to numba (arrays): plain loops over integers.
"""

from __future__ import annotations

from openbpu.arch.events.marks import (
    ARRIVAL,
    BLOCKED_BY,
    COMPARE,
    EVERY,
    HEAD,
    LATER,
    LEFT,
    MARKS,
    NEXT_WAITER,
    STACK,
    TOTAL,
    WAITER,
    Ints,
    delayed,
    last_early,
    note,
    unnoticed,
)

SHARES = 720720
"""Memory time is counted in 1/720720 cycles, which 1 to 16 transfers under way divide evenly."""


def run(  # noqa: C901, PLR0912, PLR0913, PLR0915, PLR0917 - one loop nest, for numba and Python alike
    first: Ints,
    dep_first: Ints,
    deps: Ints,
    dep_queue: Ints,
    issue: Ints,
    memory: Ints,
    fill: Ints,
    known: Ints,
    starts: Ints,
    causes: Ints,
    slack: Ints,
    start: Ints,
    end: Ints,
    cause: Ints,
    scratch: Ints,
    marks: Ints,
    plan: Ints,
) -> int:
    """Fill start, end and cause of every instruction; returns how many could not run (0 unless deadlocked).

    Instructions are sorted by queue: queue q owns positions first[q]..first[q+1]−1, in order. Position p
    starts once position p−1 of its queue ended and, for each d in deps[dep_first[p]:dep_first[p+1]], of the
    queues dep_queue[…], token d came: at end[d] + fill[d]. Its engine time is issue[p] and, if memory[p] > 0,
    a transfer of memory[p] cycles at full rate, of which each of k transfers under way gets 1/k. scratch is
    9·queues + instructions, all −1, as it is left behind; start and cause come as −1 too.

    Ends of other instructions are final as soon as they are known, whatever the order of discovery. Only
    transfers need time order: the earliest arrival or completion known is handled next, and everything that
    is not known yet waits for one of them. Between two such events all that is to come follows from the mark
    there (`openbpu.arch.events.marks`), and from ends that lie ahead of the time.

    plan says how to run: EVERY, note a mark after so many events (0: none) · MARKS, how many there are ·
    COMPARE, 1: go only from the last mark before what changed to one from which on every queue goes on as it
    did, but later or sooner · from PLANNED on, in this case, by queue the first position that changed (the
    end of the queue if none did) and then the one behind the last (0). It returns MARKS and TOTAL, the cycles
    until the last token. `end` is left as it came: as `known`, the ends of the run that noted the marks; of
    this are `starts` and `causes` as well, and `slack`, see `openbpu.arch.events.slack`.
    """
    queues = len(first) - 1
    head, next_waiter, arrival, left = HEAD, NEXT_WAITER * queues, ARRIVAL * queues, LEFT * queues
    stack, blocked_by, waiter = STACK * queues, BLOCKED_BY * queues, WAITER * queues
    width = 2 + 3 * queues
    top, now, under_way, done, seen, events = 0, 0, 0, 0, -1, 0
    mark = last_early(marks, plan, queues) if plan[COMPARE] > 0 else -1
    begin = mark * width
    for q in range(queues):
        scratch[head + q] = first[q] if mark < 0 else marks[begin + 2 + q]
        scratch[arrival + q] = -1 if mark < 0 else marks[begin + 2 + queues + q]
        scratch[left + q] = -1 if mark < 0 else marks[begin + 2 + 2 * queues + q]
        scratch[blocked_by + q] = -1
        done += scratch[head + q] - first[q]
        if scratch[left + q] > 0:
            under_way += 1
        elif scratch[arrival + q] < 0:
            scratch[stack + top] = q
            top += 1
    if mark >= 0:
        now = marks[begin]
    came = mark
    mark = max(mark, 0)
    tried, pause = 0, 0
    shifted = False
    while True:
        # 1. Everything that can be known without moving the memory's clock.
        while top > 0:
            top -= 1
            q = scratch[stack + top]
            scratch[blocked_by + q] = -1
            while scratch[head + q] < first[q + 1]:
                p = scratch[head + q]
                ready = 0
                if p > first[q]:
                    ready = end[p - 1]
                blocked = -1
                late = -1
                for i in range(dep_first[p], dep_first[p + 1]):
                    d = deps[i]
                    if d >= scratch[head + dep_queue[i]]:
                        blocked = d
                        break
                    token = end[d] + fill[d]
                    if token > ready:
                        ready = token
                        late = d
                if blocked >= 0:
                    scratch[next_waiter + q] = scratch[waiter + blocked]
                    scratch[waiter + blocked] = q
                    scratch[blocked_by + q] = blocked
                    break
                start[p] = ready
                cause[p] = late
                if memory[p] > 0:
                    scratch[arrival + q] = ready + issue[p]
                    break
                end[p] = ready + issue[p]
                scratch[head + q] += 1
                done += 1
                w = scratch[waiter + p]
                scratch[waiter + p] = -1
                while w >= 0:
                    scratch[stack + top] = w
                    top += 1
                    w = scratch[next_waiter + w]
        if done != seen:
            seen = done
            events += 1
            if plan[EVERY] > 0 and events % plan[EVERY] == 0:
                note(marks, plan, scratch, queues, now, done)
            if plan[COMPARE] > 0:
                while mark < plan[MARKS] and marks[mark * width + 1] < done:
                    mark += 1
                if mark < plan[MARKS] and marks[mark * width + 1] == done:
                    tried += 1
                if tried > pause:  # less and less often, where a change is felt for long
                    tried, pause = 0, 2 * pause + 1
                    if delayed(
                        mark, now, first, fill, known, causes, slack, end, scratch, marks, plan
                    ) and unnoticed(mark, now, first, starts, slack, end, scratch):
                        shifted = True
                        break
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
                done += 1
                scratch[stack + top] = q
                top += 1
                w = scratch[waiter + p]
                scratch[waiter + p] = -1
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
    total = 0
    for q in range(queues):
        last = first[q + 1] - 1
        if last >= first[q] and scratch[head + q] > last:
            total = max(total, end[last] + fill[last])
        elif shifted and last >= first[q]:
            total = max(total, known[last] + fill[last] + scratch[LATER * queues + q])
        elif not shifted:
            stuck += last + 1 - scratch[head + q]
        if scratch[blocked_by + q] >= 0:
            scratch[waiter + scratch[blocked_by + q]] = -1
        if plan[COMPARE] > 0:
            p = first[q] if came < 0 else marks[begin + 2 + q]
            while p < scratch[head + q]:
                end[p] = known[p]
                p += 1
    plan[TOTAL] = total
    return stuck
