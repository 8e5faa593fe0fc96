"""A metric of the user's own: a function, or a class with `update` and, if wanted, more."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openbpu.arch.errors import InputError, must
from openbpu.evaluation.accuracy.data import Data, Sample
from openbpu.evaluation.accuracy.metrics.base import Figure, Record, Seen, Weights, mean_figure
from openbpu.evaluation.own import Own

_NUMBERS = (bool, int, float)


@dataclass(frozen=True)
class OwnMetric:
    """The user's code, and how it is called."""

    own: Own

    @property
    def name(self) -> str:
        """As the user wrote it."""
        return self.own.spec

    @property
    def is_mean(self) -> bool:
        """Without a `result` of the user's."""
        return not self.own.has("result")

    def check(self, data: Data, models: int) -> None:
        """Raise InputError for something that is neither a function nor an object with `update`."""
        del data, models
        if not (self.own.has("update") or callable(self.own.thing)):
            allowed = "a function(outputs, sample), or a class with update(prediction, sample)"
            raise InputError(must("--metric", self.name, allowed, type(self.own.thing).__name__))

    def record(self, seen: Seen, first: Seen) -> Record:
        """Return what the user keeps of a sample, as JSON holds it."""
        del first
        sample = seen.sample
        made: Any = dict(seen.outputs) if seen.prediction is None else seen.prediction
        if self.own.has("postprocess"):
            made = self.own.call(sample.key, "postprocess", made, sample)
        kept = self.own.call(sample.key, "update" if self.own.has("update") else "", made, sample)
        return self._as_json(kept, sample)

    def _as_json(self, kept: Any, sample: Sample) -> Record:
        where = f"{self.name}, sample '{sample.key}'"
        try:
            made = json.loads(json.dumps(kept, default=_plain, allow_nan=False))
        except (TypeError, ValueError) as error:
            allowed = "what JSON holds: finite numbers, texts, lists, dicts"
            raise InputError(must(where, "what is kept", allowed, f"({error})")) from error
        if not self.own.has("result") and not isinstance(made, _NUMBERS):
            fix = "give the class a result(kept) that makes a number of all"
            raise InputError(must(where, "what is kept", "a number", type(made).__name__, fix))
        return made

    def cells(self, record: Record) -> dict[str, object]:
        """Return a number as it is, anything else as JSON."""
        is_number = isinstance(record, _NUMBERS) and not isinstance(record, bool)
        return {
            "kept": record if is_number else int(record) if isinstance(record, bool) else json.dumps(record)
        }

    def figures(self, records: Sequence[Record], samples: Sequence[Sample], data: Data) -> list[Figure]:
        """Return the mean, or what `result` makes of all that was kept."""
        del samples, data
        if not self.own.has("result"):
            is_share = all(isinstance(r, bool) for r in records)
            return [mean_figure(self.name, [float(r) for r in records], is_share=is_share)]

        def weighted(weights: Weights) -> float:
            return self._result([r for r, times in zip(records, weights, strict=True) for _ in range(times)])

        return [Figure(self.name, self._result(list(records)), None, False, weighted)]

    def _result(self, kept: list[Record]) -> float:
        made = self.own.call("", "result", kept)
        try:
            number = float(made)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            fix = "--resamples 0 leaves out the intervals, which are made of resamples"
            raise InputError(must(f"{self.name}.result", "what it returns", "a finite number", made, fix))
        return number


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is none of them")
