"""The search itself: which configurations are tried, one batch after another.

    base ──► recipes that cost no time ──► noise per tensor, µs per node ──► order: most noise per µs first
      └─ good enough: done     └─ done         prefixes of the order ──► the shortest that is good enough
                                                   │            └─ what it does not need is taken back
                                                   │                  └─ fewer, with corrected weights
                                               none, with all int16: corrected weights, too
                                                   └─ none: the worst nodes to float, on the CPU

Every point is a real quantization, evaluation and compilation; noise and µs by node decide the order only.
Corrections take several times as long as all else, so they come where the others have shown the way. What is
tried does not depend on where it is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openbpu.evaluation.search.budget import fewer, with_floats, within_budget
from openbpu.evaluation.search.latency import within_latency
from openbpu.evaluation.search.prefixes import Prefixes
from openbpu.evaluation.search.recipes import best_recipe, corrected, is_enough
from openbpu.evaluation.search.result import Gain
from openbpu.evaluation.search.sense import Senses, ordered
from openbpu.evaluation.search.setup import Recipe, Setup, Types
from openbpu.evaluation.search.trials import BASE, Trials


def walk(trials: Trials, senses: Senses) -> tuple[Gain, ...]:
    """Try configurations, and return what is known of int16 group by group, () where nobody asked.

    Raises what openbpu raises of the configuration without search.
    """
    if trials.run([BASE])[0].refused:
        trials.bench.checked(BASE)
    plain = best_recipe(trials) if not is_enough(trials, Recipe()) else Recipe()
    if is_enough(trials, plain):
        return ()
    best = corrected(plain)
    trials.run([Setup(recipe=best)])
    if is_enough(trials, best):
        return ()
    found, noise = senses.readers(Setup(recipe=plain))
    if not found:
        return ()
    places = list(dict.fromkeys(name for readers in found for name in readers.nodes))
    types: Types = tuple((name, "int16") for name in places)
    before, after = trials.of(Setup(recipe=plain)), trials.run([Setup(types, plain)])[0]
    gains = ordered(found, noise, before, after)
    both = _Both(trials, types, *(Prefixes(trials, recipe, gains, places) for recipe in (plain, best)))
    if trials.goal.budget is not None:
        both.within_budget(senses.noisiest)
    if trials.goal.latency is not None and not (trials.goal.budget is not None and trials.met):
        added = after.latency_us - before.latency_us
        both.within_latency((trials.limit_us - before.latency_us) / added if added > 0 else 1.0)
    return gains


@dataclass(frozen=True, slots=True)
class _Both:
    """Prefixes without corrections, quickly tried, and with them. types: int16 for all."""

    trials: Trials
    types: Types
    plain: Prefixes
    corrected: Prefixes

    def within_budget(self, noisiest: Callable[[Setup], Sequence[str]]) -> None:
        """Try what may meet the budget. noisiest: the nodes to leave float first, of a configuration."""
        if self.trials.is_good(self.trials.of(Setup(self.types, self.plain.recipe))):
            fewer(self.corrected, within_budget(self.plain))
            return
        tops = [Setup(self.types, some.recipe) for some in (self.plain, self.corrected)]
        trials = self.trials.run(tops)
        if self.trials.is_good(trials[1]):
            within_budget(self.corrected)
        elif not trials[0].refused and _has_room(self.trials):
            at = 0 if trials[1].refused or self.trials.loss(trials[0]) <= self.trials.loss(trials[1]) else 1
            floats = with_floats((self.plain, self.corrected)[at], noisiest(tops[at]))
            if floats is not None:
                within_budget(floats)

    def within_latency(self, room: float) -> None:
        """Try what is fast enough. room: what may be added, as a share of what int16 everywhere adds."""
        length = within_latency(self.plain, room)
        for shorter in (length, length * 7 // 8):  # corrections may change which scales are alike
            if self.corrected.fast([shorter]):
                break


def _has_room(trials: Trials) -> bool:
    """Whether the latency leaves room for a node on the CPU, which is handed what it reads."""
    spare = trials.limit_us - trials.of(BASE).latency_us
    return spare >= trials.bench.march.cpu.handover_us
