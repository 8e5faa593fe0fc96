"""Whether what a search found is better than no search, or only on these samples."""

from __future__ import annotations

import numpy as np

from openbpu.evaluation.search.score import Scores
from openbpu.evaluation.search.setup import Setup
from openbpu.evaluation.search.trial import Trial
from openbpu.evaluation.search.trials import BASE, Trials

_FEWEST = 4
"""Fewer samples show no spread."""


def by_chance(trials: Trials, setup: Setup, trial: Trial) -> str:
    """Return why a slower configuration is no better than none, as a sentence; "" where it is better.

    Both are judged again without a part of the samples in turn: the difference of their scores must be beyond
    its own standard error (the jackknife's, Efron and Stein, *The jackknife estimate of variance*, 1981).
    """
    base, bench = trials.of(BASE), trials.bench
    if setup == BASE or trial.latency_us <= base.latency_us or base.refused or bench.scorer.samples < _FEWEST:
        return ""
    first, other = (bench.scorer.parts(bench.quantized(s).SerializeToString()) for s in (BASE, setup))
    spread = standard_error(other - first) / (abs(trials.reference.score) or 1.0)
    nearer = trials.loss(base) - trials.loss(trial)
    if nearer > spread:
        return ""
    return (
        f"{setup.name} is {100 * nearer:.2f} % nearer to float than int8, give or take "
        f"{100 * spread:.2f} % on {bench.scorer.samples} samples: that is chance, and int8 stays; "
        "give more samples to judge by (--data)"
    )


def standard_error(parts: Scores) -> float:
    """Return the standard error of a figure from its values without each of the parts of the samples."""
    return float(np.sqrt((parts.size - 1) * np.mean(np.square(parts - parts.mean()))))
