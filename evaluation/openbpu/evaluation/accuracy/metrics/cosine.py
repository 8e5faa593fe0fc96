"""Cosine to the first model: how alike are the outputs, sample by sample?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.evaluation.accuracy.data import Data, Sample
from openbpu.evaluation.accuracy.metrics.base import Figure, Record, Seen, mean_figure


@dataclass(frozen=True)
class Cosine:
    """A figure for every output, the mean over the samples."""

    name: str = "cosine"
    is_mean: bool = True

    def check(self, data: Data, models: int) -> None:
        """Raise InputError for one model: any data will do."""
        del data
        if models == 1:
            fix = "name the model to compare with first"
            raise InputError(must("--metric cosine", "the number of models", "2 or more", 1, fix))

    def record(self, seen: Seen, first: Seen) -> Record:
        """Return the cosine of every output."""
        ours, theirs = _arrays(seen), _arrays(first)
        if set(ours) != set(theirs):
            found = ", ".join(ours)
            raise InputError(
                must(seen.model, "the outputs", ", ".join(theirs), found, f"as of {first.model}")
            )
        for name, y in ours.items():
            if y.shape != theirs[name].shape:
                what, as_of = f"the shape of output '{name}'", f"as of {first.model}"
                raise InputError(must(seen.model, what, theirs[name].shape, y.shape, as_of))
        return {name: cosine(theirs[name], y) for name, y in ours.items()}

    def cells(self, record: Record) -> dict[str, object]:
        """Return the cosine of every output."""
        return dict(record)

    def figures(self, records: Sequence[Record], samples: Sequence[Sample], data: Data) -> list[Figure]:
        """Return the mean over the samples, for every output."""
        del samples, data
        names = list(records[0]) if records else []
        several = len(names) > 1
        return [
            mean_figure(
                f"{self.name} '{n}'" if several else self.name, [r[n] for r in records], is_relative=True
            )
            for n in names
        ]


def cosine(a: Array, b: Array) -> float:
    """Return the cosine of two arrays as vectors; 1 where both are all zero, 0 where a value is not finite.

    The sums are NumPy's own: those of BLAS depend on the number of threads.
    """
    x, y = (np.asarray(v, dtype=np.float64).reshape(-1) for v in (a, b))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return 0.0
    xx, yy, xy = (float(np.sum(p * q)) for p, q in ((x, x), (y, y), (x, y)))
    if xx == 0.0 or yy == 0.0:
        return float(xx == yy)
    return max(-1.0, min(1.0, xy / math.sqrt(xx) / math.sqrt(yy)))


def _arrays(seen: Seen) -> dict[str, Array]:
    made = seen.outputs if seen.prediction is None else seen.prediction
    if not isinstance(made, Mapping):
        made = {"prediction": made}
    return {str(name): np.asarray(y) for name, y in made.items()}
