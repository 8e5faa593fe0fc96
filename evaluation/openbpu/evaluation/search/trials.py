"""All configurations that were tried, and how they compare with what is wanted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from math import inf

from openbpu.evaluation.distribution import Pool, Ready, Task
from openbpu.evaluation.search.result import Goal, loss_of
from openbpu.evaluation.search.setup import Setup
from openbpu.evaluation.search.trial import Bench, Trial

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total)."""

BASE = Setup()
"""The configuration without search."""


class Trials:
    """Tries configurations, each once. most: so many in all; what does not depend on the pool."""

    def __init__(self, bench: Bench, goal: Goal, pool: Pool, most: int, progress: Progress) -> None:
        self.bench, self.goal = bench, goal
        self._pool, self._most, self._progress = pool, most, progress
        self._task: Task[Setup, Trial] = Ready(bench.tried) if pool.is_here else bench.job
        self._found: dict[str, Trial] = {}
        self.setups: dict[str, Setup] = {}
        self.larger = bench.job.test.larger
        progress("the float model", 0, 1)
        self.reference = bench.scorer.float()

    def of(self, setup: Setup) -> Trial:
        """Return the trial of a configuration; a refused one where it was not tried."""
        missing = Trial(refused=f"not tried: {self._most} trials are the most")
        return self._found.get(self._key(setup), missing)

    def run(self, setups: Sequence[Setup]) -> list[Trial]:
        """Return the trials of these configurations, those that are new in one go; none beyond the limit."""
        new = {self._key(setup): setup for setup in setups if self._key(setup) not in self._found}
        keys = list(new)[: max(self._most - len(self._found), 0)]

        def take(number: int, trial: Trial) -> None:
            self._found[keys[number]] = trial
            self._tell()

        self._tell()
        self._pool.run(self._task, [new[key] for key in keys], take)
        # In their order, not in that in which workers were ready.
        self.setups |= {key: new[key] for key in keys}
        return [self.of(setup) for setup in setups]

    def _tell(self) -> None:
        losses = [self.loss(trial) for trial in self._found.values() if not trial.refused]
        best = f": {100 * min(losses):.2f} % below float at best" if losses else ""
        self._progress(f"trying configurations{best}", len(self._found), self._most)

    def _key(self, setup: Setup) -> str:
        return json.dumps(setup.config(self.bench.job.base), sort_keys=True)

    def loss(self, trial: Trial) -> float:
        """Return how much worse than float a trial is, as a share."""
        return loss_of(trial.score, self.reference.score, larger=self.larger)

    def is_good(self, trial: Trial) -> bool:
        """Whether a trial is within the budget; any is where there is none."""
        budget = self.goal.budget
        return not trial.refused and (budget is None or self.loss(trial) <= budget + 1e-12)

    def is_fast(self, trial: Trial) -> bool:
        """Whether a trial is within the latency; any is where none was given."""
        return not trial.refused and trial.latency_us <= self.limit_us

    def meets(self, trial: Trial) -> bool:
        """Whether a trial is all that is wanted."""
        return self.is_good(trial) and self.is_fast(trial)

    @property
    def met(self) -> bool:
        """Whether any trial is."""
        return any(self.meets(trial) for trial in self._found.values())

    @property
    def limit_us(self) -> float:
        """The most that a configuration may take."""
        if self.goal.latency is None:
            return inf
        return self.of(BASE).latency_us * (1 + self.goal.latency) + 1e-9
