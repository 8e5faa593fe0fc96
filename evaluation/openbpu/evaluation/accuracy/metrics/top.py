"""Top-k: is the true class among the k that score highest?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.evaluation.accuracy.data import Data, Sample
from openbpu.evaluation.accuracy.metrics.base import Figure, OfClass, Record, Seen, chosen_output, mean_figure

_OTHERS = 3
"""Classes that are told a class is taken for, the most frequent ones."""


@dataclass(frozen=True)
class Top:
    """k, and the name of the output that holds the scores ("": the only one)."""

    k: int
    scores: str = ""

    @property
    def name(self) -> str:
        """As the user writes it."""
        return f"top{self.k}"

    @property
    def is_mean(self) -> bool:
        """It is a share."""
        return True

    def check(self, data: Data, models: int) -> None:
        """Raise InputError for data without a class per sample."""
        del models
        label = data.samples[0].label
        if type(label) is not int:
            found = "missing" if label is None else type(label).__name__
            fix = "put images into a folder per class, name an array with --labels, or give a file of labels"
            if isinstance(label, np.ndarray):
                fix = "numpy.argmax(labels, 1) makes classes of rows of scores"
            if isinstance(label, float):
                fix = "save them as integers"
            raise InputError(must(str(data.where), "labels", "a class per sample", found, fix))

    def record(self, seen: Seen, first: Seen) -> Record:
        """Return the rank of the true class from 0, and the class that scores highest.

        Of equal scores the class of the lower number comes first; NaN comes last.
        """
        del first
        made = chosen_output(seen, self.scores) if seen.prediction is None else np.asarray(seen.prediction)
        scores = _flat(made, seen)
        label = seen.sample.label
        if not 0 <= label < len(scores):
            where = f"sample '{seen.sample.key}'"
            fix = f"{seen.model} has {len(scores)} scores; give labels that begin with 0"
            raise InputError(must(where, "the label", f"in 0..{len(scores) - 1}", label, fix))
        if self.k >= len(scores):
            fix = "it would be right always"
            raise InputError(must(self.name, "k", f"below {len(scores)}, the number of classes", self.k, fix))
        order = np.argsort(-scores, kind="stable")  # NaN is sorted behind everything
        rank = int(np.flatnonzero(order == label)[0])
        return {"rank": rank if np.isfinite(scores[label]) else len(scores), "predicted": int(order[0])}

    def cells(self, record: Record) -> dict[str, object]:
        """Return right or wrong, and the class that was found."""
        return {"right": int(record["rank"] < self.k), "predicted": record["predicted"]}

    def figures(self, records: Sequence[Record], samples: Sequence[Sample], data: Data) -> list[Figure]:
        """Return the share of samples that are right."""
        figure = mean_figure(self.name, [float(r["rank"] < self.k) for r in records], is_share=True)
        return [replace(figure, classes=self._classes(records, samples, data))]

    def _classes(
        self, records: Sequence[Record], samples: Sequence[Sample], data: Data
    ) -> tuple[OfClass, ...]:
        of_each: dict[int, list[Record]] = {}
        for record, sample in zip(records, samples, strict=True):
            of_each.setdefault(sample.label, []).append(record)
        found = []
        for label, own in sorted(of_each.items()):
            right = sum(r["rank"] < self.k for r in own) / len(own)
            others = Counter(data.name_of(r["predicted"]) for r in own if r["rank"] >= self.k)
            found.append(OfClass(data.name_of(label), right, len(own), tuple(others.most_common(_OTHERS))))
        return tuple(found)


def _flat(made: Array, seen: Seen) -> Array:
    """Return scores as a vector of floats."""
    if made.dtype.kind not in "fiu" or made.ndim == 0 or max(made.shape) != made.size:
        fix = "name the output with --scores, or give --postprocess"
        found = f"{made.shape} of {made.dtype}"
        raise InputError(must(seen.model, "the scores", "a number per class", found, fix))
    return made.reshape(-1).astype(np.float64)
