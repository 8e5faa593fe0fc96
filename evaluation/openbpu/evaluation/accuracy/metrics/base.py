"""The form of a metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Array, Float64
from openbpu.arch.errors import InputError, must
from openbpu.evaluation.accuracy.data import Data, Sample

Weights = npt.NDArray[np.int64]
Record = Any
"""What is kept of a sample: numbers, texts, lists and dicts, as JSON holds them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model made of a sample.

    model: its name · outputs: as of a batch of one · prediction: what the user's postprocessing made of them,
    None without any · frame: height and width that the model sees pictures in, None if it takes none.
    """

    model: str
    sample: Sample
    outputs: Mapping[str, Array]
    prediction: Any = None
    frame: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class OfClass:
    """A figure for one class. count: its samples, or objects · taken_for: other classes, and how often."""

    name: str
    value: float
    count: int
    taken_for: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """A number about all samples.

    values: what each contributes, None where it is no mean · is_share: whether each is right or wrong ·
    weighted: the number of a resample, of how often each sample is in it · is_relative: whether it compares
    with the first model already · classes: the same by class, of those that there are.
    """

    name: str
    value: float
    values: Float64 | None
    is_share: bool
    weighted: Callable[[Weights], float]
    is_relative: bool = False
    classes: tuple[OfClass, ...] = ()


class Metric(Protocol):
    """A metric: `record` runs where the model ran, `figures` where the user is."""

    @property
    def name(self) -> str:
        """As the user writes it."""

    @property
    def is_mean(self) -> bool:
        """Whether its figures are means, which a part of the samples tells something of."""

    def check(self, data: Data, models: int) -> None:
        """Raise InputError where the data, or so many models, are none for it."""

    def record(self, seen: Seen, first: Seen) -> Record:
        """Return what is kept of a sample; `first` is what the first model made of it."""

    def cells(self, record: Record) -> dict[str, object]:
        """Return what a table of samples shows of a record, by column."""

    def figures(self, records: Sequence[Record], samples: Sequence[Sample], data: Data) -> list[Figure]:
        """Return the figures of these samples, in their order."""


def mean_figure(
    name: str, values: Sequence[float], *, is_share: bool = False, is_relative: bool = False
) -> Figure:
    """Return the mean of a number per sample."""
    kept = np.asarray(values, dtype=np.float64)

    def weighted(weights: Weights) -> float:
        # Not a product of matrices: BLAS adds in another order on another machine.
        return float(np.sum(kept * weights) / np.sum(weights))

    return Figure(name, weighted(np.ones(len(kept), np.int64)), kept, is_share, weighted, is_relative)


def chosen_output(seen: Seen, wanted: str) -> Array:
    """Return the output that a metric reads: the one that the user named, or the only one."""
    if wanted:
        if wanted not in seen.outputs:
            raise InputError(
                must("--scores", "the output", f"one of {', '.join(seen.outputs)}", f"'{wanted}'")
            )
        return seen.outputs[wanted]
    if len(seen.outputs) != 1:
        fix = "name it with --scores, or give --postprocess"
        found = f"{len(seen.outputs)}: {', '.join(seen.outputs)}"
        raise InputError(must(seen.model, "the number of outputs", "1 for scores of classes", found, fix))
    return next(iter(seen.outputs.values()))
