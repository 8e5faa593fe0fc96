"""A latency: the longest prefix that is fast enough, with shorter ones for the front on the way."""

from __future__ import annotations

from openbpu.evaluation.search.budget import RUNGS
from openbpu.evaluation.search.prefixes import Prefixes

_STEPS = 5
"""Prefixes tried on the way to the longest one."""


def within_latency(prefixes: Prefixes, room: float) -> int:
    """Return the length of the longest prefix that is fast enough, of those tried.

    room: what may be added, as a share of what int16 everywhere adds.
    """
    if room >= 1:
        prefixes.fast(sorted({prefixes.at(share) for share in (*RUNGS[0], *RUNGS[1])}))
        return len(prefixes.gains)
    fast, slow, middle = 0, len(prefixes.gains), prefixes.at(max(room, 0.0))
    for _ in range(_STEPS):
        if slow - fast < 2:
            break
        middle = min(max(middle, fast + 1), slow - 1)
        if prefixes.fast([middle]):
            fast = middle
        else:
            slow = middle
        middle = (fast + slow) // 2
    return fast
