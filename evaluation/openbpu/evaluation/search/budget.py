"""A budget: the shortest prefix that is good enough, and what it does not need taken back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from openbpu.evaluation.search.prefixes import Prefixes
from openbpu.evaluation.search.result import Gain

RUNGS = ((1 / 32, 1 / 16, 1 / 8), (1 / 4, 1 / 2), (1.0,))
"""Shares of what int16 everywhere costs: prefixes of these costs are tried until one is good enough."""
_BETWEEN = 3
"""Prefixes tried between one that is not good enough and one that is."""
_CHUNKS = 4
"""Parts of a prefix that are taken back one by one, …"""
_ROUNDS = 2
"""… so many times, in ever smaller parts; more would leave no trials for what comes after."""
_FEWER = 3
"""How often it is tried whether fewer groups do with corrected weights."""
_FLOATS = ((1,), (2, 4), (8, 16))
"""How many nodes are tried in float, where int16 is not enough."""


def within_budget(prefixes: Prefixes) -> Sequence[Gain]:
    """Return groups that meet the budget, where all groups do, as few as may be."""
    taken = take_back(prefixes, prefixes.gains[: shortest(prefixes)])
    prefixes.plain().run([taken])  # the recipe, too, is taken back where types alone do
    return taken


def fewer(prefixes: Prefixes, taken: Sequence[Gain]) -> None:
    """Try how few of the groups `taken`, the first ones, do by the recipe of these prefixes."""
    bad, good = 0, len(taken)
    for _ in range(_FEWER):
        if good - bad < 2:
            return
        middle = (bad + good) // 2
        if prefixes.trials.is_good(prefixes.run([taken[:middle]])[0]):
            good = middle
        else:
            bad = middle


def shortest(prefixes: Prefixes) -> int | None:
    """Return the length of the shortest prefix that is good enough, of those tried; None where none is."""
    failed = 0
    for shares in RUNGS:
        lengths = sorted({prefixes.at(share) for share in shares})
        good = prefixes.good(lengths)
        if good:
            failed = max([failed, *(n for n in lengths if n < good[0])])
            return _between(prefixes, failed, good[0])
        failed = max(failed, *lengths)
    return None


def _between(prefixes: Prefixes, failed: int, good: int) -> int:
    """Return the shortest good prefix between one that fails and one that is good."""
    steps = range(1, _BETWEEN + 1)
    lengths = {failed + (good - failed) * k // (_BETWEEN + 1) for k in steps} - {failed, good}
    return min([good, *prefixes.good(sorted(lengths))])


def take_back(prefixes: Prefixes, taken: Sequence[Gain]) -> Sequence[Gain]:
    """Return groups without those that the goal does without: all parts that can go alone, or the dearest."""
    parts = _CHUNKS
    for _ in range(_ROUNDS):
        if len(taken) < 2:
            break
        ends = sorted({k * len(taken) // parts for k in range(parts + 1)})
        chunks = [set(range(start, end)) for start, end in pairwise(ends)]
        spared = _spared(prefixes, taken, chunks)
        if not spared:
            parts *= 2
        taken = [gain for k, gain in enumerate(taken) if k not in spared]
    return taken


def _spared(prefixes: Prefixes, taken: Sequence[Gain], chunks: Sequence[set[int]]) -> set[int]:
    """Return which places of `taken` the goal does without, tried chunk by chunk and then together."""

    def without(places: set[int]) -> list[Gain]:
        return [gain for k, gain in enumerate(taken) if k not in places]

    trials = prefixes.run([without(chunk) for chunk in chunks])
    good = [(t.latency_us, k) for k, t in enumerate(trials) if prefixes.trials.is_good(t)]
    if not good:
        return set()
    every = set[int]().union(*(chunks[k] for _, k in good))
    if len(good) > 1 and prefixes.trials.is_good(prefixes.run([without(every)])[0]):
        return every
    return chunks[min(good)[1]]


def with_floats(prefixes: Prefixes, names: Sequence[str]) -> Prefixes | None:
    """Return the prefixes with the fewest nodes in float that, with all others int16, meet the goal."""
    for counts in _FLOATS:
        some = [prefixes.with_floats(names[:count]) for count in counts if count <= len(names)]
        trials = prefixes.trials.run([s.setup(s.gains) for s in some])
        good = [s for s, trial in zip(some, trials, strict=True) if prefixes.trials.meets(trial)]
        if good:
            return good[0]
        if not any(prefixes.trials.is_fast(trial) for trial in trials):
            break  # the CPU takes longer than may be, and more of it still longer
    return None
