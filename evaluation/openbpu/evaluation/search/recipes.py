"""What costs no time on the chip: zero points of inputs, ranges by another method, corrected weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from openbpu.evaluation.search.setup import Recipe, Setup
from openbpu.evaluation.search.trials import BASE, Trials
from openbpu.quantization.onnx import Corrections

PLAIN = Recipe()
_METHODS = ("mse", "percentile")
"""Methods that take little longer than `max`; `mix` takes 20 times as long."""
_FREE = 0.01
"""What a recipe may add to the latency: ranges of their own make a Concat round operands that were alike."""


def best_recipe(trials: Trials) -> Recipe:
    """Return the best recipe without corrections; equal scores are told apart by the cosine.

    What is asked for is kept.
    """
    asked = trials.bench.job.base.get("model_config", {}).get("activation", {})
    best = PLAIN
    if "asymmetric" not in asked:
        best = _best_of(trials, [best, replace(best, asymmetric=True)])
    if not asked.keys() & {"calibration_type", "max_percentile"} and not is_enough(trials, best):
        best = _best_of(trials, [best, *(replace(best, method=method) for method in _METHODS)])
    return best


def corrected(recipe: Recipe) -> tuple[Recipe, ...]:
    """Return a recipe with weights rounded well, and with all corrections.

    Rounding alone, since means that are set right by few samples can cost beside int16 what they win in int8.
    """
    some = Corrections(adaptive_rounding=True), Corrections(True, True, True)
    return tuple(replace(recipe, corrections=corrections) for corrections in some)


def is_enough(trials: Trials, recipe: Recipe) -> bool:
    """Whether int8 by a recipe leaves nothing to search: a budget that is met at no cost."""
    trial = trials.of(Setup(recipe=recipe))
    return trials.goal.budget is not None and trials.meets(trial) and _is_free(trials, recipe)


def _is_free(trials: Trials, recipe: Recipe) -> bool:
    trial = trials.of(Setup(recipe=recipe))
    return not trial.refused and trial.latency_us <= trials.of(BASE).latency_us * (1 + _FREE)


def _best_of(trials: Trials, recipes: Sequence[Recipe]) -> Recipe:
    trials.run([Setup(recipe=recipe) for recipe in recipes])

    def quality(recipe: Recipe) -> tuple[float, float]:
        trial = trials.of(Setup(recipe=recipe))
        return (trials.loss(trial), -trial.cosine) if _is_free(trials, recipe) else (inf, 0.0)

    return min(recipes, key=quality)
