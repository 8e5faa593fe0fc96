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
from math import inf

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
    others = corrected(plain)
    trials.run([Setup(recipe=recipe) for recipe in others])
    if any(is_enough(trials, recipe) for recipe in others):
        return ()
    found, noise = senses.readers(Setup(recipe=plain))
    if not found:
        return ()
    places = list(dict.fromkeys(name for readers in found for name in readers.nodes))
    types: Types = tuple((name, "int16") for name in places)
    before, after = trials.of(Setup(recipe=plain)), trials.run([Setup(types, plain)])[0]
    gains = ordered(found, noise, before, after)
    first, *more = (Prefixes(trials, recipe, gains, places) for recipe in (plain, *others))
    ways = _Ways(trials, types, first, tuple(more))
    if trials.goal.budget is not None:
        ways.within_budget(senses.noisiest)
    if trials.goal.latency is not None and not (trials.goal.budget is not None and trials.met):
        added = after.latency_us - before.latency_us
        ways.within_latency((trials.limit_us - before.latency_us) / added if added > 0 else 1.0)
    return gains


@dataclass(frozen=True, slots=True)
class _Ways:
    """Prefixes without corrections, quickly tried, and with some. types: int16 for all."""

    trials: Trials
    types: Types
    plain: Prefixes
    corrected: tuple[Prefixes, ...]

    def within_budget(self, noisiest: Callable[[Setup], Sequence[str]]) -> None:
        """Try what may meet the budget. noisiest: the nodes to leave float first, of a configuration."""
        if self.trials.is_good(self.trials.of(Setup(self.types, self.plain.recipe))):
            taken = within_budget(self.plain)
            fewer(self._best(self.corrected, ()), taken)
            return
        self.trials.run([Setup(self.types, some.recipe) for some in self.corrected])
        best = self._best((self.plain, *self.corrected), self.types)
        top = Setup(self.types, best.recipe)
        if self.trials.is_good(self.trials.of(top)):
            within_budget(best)
        elif not self.trials.of(top).refused and _has_room(self.trials):
            floats = with_floats(best, noisiest(top))
            if floats is not None:
                within_budget(floats)

    def within_latency(self, room: float) -> None:
        """Try what is fast enough. room: what may be added, as a share of what int16 everywhere adds."""
        length = within_latency(self.plain, room)
        for some in self.corrected:
            # Corrections may change which scales are alike, and so the latency.
            if not some.fast([length]):
                some.fast([length * 7 // 8])

    def _best(self, some: Sequence[Prefixes], types: Types) -> Prefixes:
        """Return those whose recipe is best with these types."""

        def loss(prefixes: Prefixes) -> float:
            trial = self.trials.of(Setup(types, prefixes.recipe))
            return inf if trial.refused else self.trials.loss(trial)

        return min(some, key=loss)


def _has_room(trials: Trials) -> bool:
    """Whether the latency leaves room for a node on the CPU, which is handed what it reads."""
    spare = trials.limit_us - trials.of(BASE).latency_us
    return spare >= trials.bench.march.cpu.handover_us
