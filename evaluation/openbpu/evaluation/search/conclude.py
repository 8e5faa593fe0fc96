"""From all that was tried to what is chosen, and why it is not what was wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openbpu.evaluation.search.chance import by_chance
from openbpu.evaluation.search.result import Gain, Point, Search, on_front
from openbpu.evaluation.search.setup import Setup
from openbpu.evaluation.search.trial import Trial
from openbpu.evaluation.search.trials import BASE, Trials

_AS_GOOD = 0.1
"""Where a budget is missed: of points that lie within this share of it, the fastest is taken."""


def concluded(trials: Trials, gains: Sequence[Gain], told: Sequence[str]) -> Search:
    """Return the search, without its time."""
    tried = [(setup, trials.of(setup)) for setup in trials.setups.values()]
    known = [(setup, trial) for setup, trial in tried if not trial.refused]
    bench = trials.bench
    chosen = _chosen(trials, known)
    reached = trials.meets(known[chosen][1])
    if not reached and (chance := by_chance(trials, *known[chosen])):
        chosen, told = next(k for k, (setup, _) in enumerate(known) if setup == BASE), (*told, chance)
    metric, reference = bench.job.test.metric.name, trials.reference
    return Search(
        metric=metric,
        larger=trials.larger,
        is_share=reference.is_share,
        samples=bench.scorer.samples,
        float_score=reference.score,
        goal=trials.goal,
        march=bench.march.name,
        points=_points(trials, known),
        chosen=chosen,
        reached=reached,
        why="" if reached else _why(trials, known[chosen][1], gains),
        gains=tuple(gains),
        refused=tuple(f"{s.name}: {t.refused}" for s, t in tried if t.refused),
        told=(*bench.scorer.told, *told),
        config=_config(bench.job.base, *known[chosen]),
        seconds=0.0,
    )


def _has_more(setup: Setup, other: Setup) -> bool:
    """Whether a configuration has all that the other has, and more: it is no worse, but by chance."""
    alike = setup.recipe == other.recipe and setup.named("float") == other.named("float")
    return alike and set(setup.named("int16")) > set(other.named("int16"))


def _config(base: Mapping[str, Any], setup: Setup, trial: Trial) -> Mapping[str, Any]:
    """Return the `quant_config` of what was tried, what is left float for the march in it."""
    made = setup.config(base)
    nodes = {**{name: {"qtype": "float"} for name in trial.left}, **made.get("node_config", {})}
    return {**made, "node_config": nodes} if nodes else made


def _points(trials: Trials, known: Sequence[tuple[Setup, Trial]]) -> tuple[Point, ...]:
    base = trials.of(BASE).latency_us
    losses = [trials.loss(trial) for _, trial in known]
    fronts = on_front([trial.latency_us for _, trial in known], losses)
    return tuple(
        Point(
            name=setup.name,
            setup=setup,
            score=trial.score,
            loss=loss,
            cosine=trial.cosine,
            bpu_us=trial.bpu_us,
            cpu_us=trial.cpu_us,
            increase=trial.latency_us / base - 1 if base else 0.0,
            cpu_nodes=trial.cpu_nodes,
            front=front,
            left=trial.left,
        )
        for (setup, trial), loss, front in zip(known, losses, fronts, strict=True)
    )


def _chosen(trials: Trials, known: Sequence[tuple[Setup, Trial]]) -> int:
    """Return the fastest of those good enough, the best of those fast enough, or what comes closest.

    Of equally fast ones it is the one with the least done to it. One that is good enough by chance is left
    out where others are.
    """
    loss = [trials.loss(trial) for _, trial in known]
    pool = [k for k, (_, trial) in enumerate(known) if trials.meets(trial)]
    missed = [setup for setup, trial in known if not trials.is_good(trial)]
    pool = [k for k in pool if not any(_has_more(setup, known[k][0]) for setup in missed)] or pool
    if trials.goal.budget is None:
        return min(pool, key=lambda k: (loss[k], -known[k][1].cosine, _effort(known[k])))
    if not pool:
        fast = [k for k, (_, trial) in enumerate(known) if trials.is_fast(trial)]
        limit = min(loss[k] for k in fast) + _AS_GOOD * trials.goal.budget
        pool = [k for k in fast if loss[k] <= limit]
    return min(pool, key=lambda k: (*_effort(known[k]), loss[k]))


def _effort(of: tuple[Setup, Trial]) -> tuple[float, int, int]:
    """Return the µs of a configuration, what is in its recipe, and its nodes."""
    setup, trial = of
    return round(trial.latency_us, 3), len(setup.recipe.words), len(setup.types)


def _why(trials: Trials, best: Trial, gains: Sequence[Gain]) -> str:
    """Say what was not reached and what comes closest."""
    loss, base = 100 * trials.loss(best), trials.of(BASE).latency_us
    added = 100 * (best.latency_us / base - 1) if base else 0.0
    closest = f"the closest is {loss:.2f} % below float at {added:+.1f} % latency"
    budget = f"the budget of {100 * (trials.goal.budget or 0.0):g} % is not reached: {closest}"
    if not gains:
        return f"{budget}; no node that could be int16 is left to the search"
    if trials.goal.latency is not None:
        return f"{budget}, where {100 * trials.goal.latency:+g} % are allowed"
    return f"{budget}; int16 for every node does not do, nor float for the noisiest"
