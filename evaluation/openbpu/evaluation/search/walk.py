"""The search itself: which configurations are tried, one batch after another.

    base ──► recipes that cost no time ──► noise per tensor, µs per node ──► order: most noise per µs first
      └─ good enough: done     └─ done         prefixes of the order ──► the shortest that is good enough
                                                   └─ what it does not need is taken back
                                               none, with all int16: the worst nodes to float, on the CPU

Every point is a real quantization, evaluation and compilation; noise and µs by node decide the order only.
What is tried does not depend on where it is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from openbpu.evaluation.search.budget import within_budget
from openbpu.evaluation.search.latency import within_latency
from openbpu.evaluation.search.prefixes import Prefixes
from openbpu.evaluation.search.result import Gain
from openbpu.evaluation.search.sense import Senses, ordered
from openbpu.evaluation.search.setup import Recipe, Setup
from openbpu.evaluation.search.trials import BASE, Trials
from openbpu.quantization.onnx import Corrections

_PLAIN = Recipe()
_FIRST = (Recipe(method="mix"),)


def walk(trials: Trials, senses: Senses) -> tuple[Gain, ...]:
    """Try configurations, and return what is known of int16 group by group, () where nobody asked.

    Raises what openbpu raises of the configuration without search.
    """
    if trials.run([BASE])[0].refused:
        trials.bench.checked(BASE)
    if _is_enough(trials, BASE):
        return ()
    recipe = best_recipe(trials)
    start = Setup(recipe=recipe)
    if _is_enough(trials, start):
        return ()
    found, noise = senses.readers(start)
    if not found:
        return ()
    places = list(dict.fromkeys(name for readers in found for name in readers.nodes))
    top = Setup(tuple((name, "int16") for name in places), recipe)
    before, after = trials.of(start), trials.run([top])[0]
    gains = ordered(found, noise, before, after)
    prefixes = Prefixes(trials, recipe, gains, places)
    if trials.goal.budget is not None:
        within_budget(prefixes, lambda: () if after.refused else senses.noisiest(top))
    if trials.goal.latency is not None and not (trials.goal.budget is not None and trials.met):
        added = after.latency_us - before.latency_us
        within_latency(prefixes, (trials.limit_us - before.latency_us) / added if added > 0 else 1.0)
    return gains


def best_recipe(trials: Trials) -> Recipe:
    """Return the best of what costs no time on the chip; equal scores are told apart by the cosine."""
    trials.run([Setup(recipe=recipe) for recipe in _FIRST])
    best = _best_of(trials, [_PLAIN, *_FIRST])
    if _is_enough(trials, Setup(recipe=best)):
        return best
    corrected = replace(best, corrections=Corrections(True, True, True))
    trials.run([Setup(recipe=corrected)])
    return _best_of(trials, [best, corrected])


def _best_of(trials: Trials, recipes: Sequence[Recipe]) -> Recipe:
    def quality(recipe: Recipe) -> tuple[float, float]:
        trial = trials.of(Setup(recipe=recipe))
        return (float("inf"), 0.0) if trial.refused else (trials.loss(trial), -trial.cosine)

    return min(recipes, key=quality)


def _is_enough(trials: Trials, setup: Setup) -> bool:
    """Whether nothing is left to search: a budget that is met at no cost."""
    return trials.goal.budget is not None and trials.meets(trials.of(setup))
