"""`openbpu quantize --auto` on a network of `accuracy.py`: by its measures, on calibration samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from accuracy_networks import Feed, Network

from openbpu.evaluation.accuracy.data import Data, Sample
from openbpu.evaluation.accuracy.metrics import Figure, Seen
from openbpu.evaluation.search import Goal, Search, search
from openbpu.quantization.onnx import quantize

BUDGET, LATENCY = 0.01, 0.15
"""Within 1 % of float at less than 15 % more latency; or else, or without a budget, the best at that."""


@dataclass(frozen=True)
class AsFloat:
    """The mean of a network's measures, against what the float model says: labels are for the test.

    Of so few samples the first measure alone says little: no box of twenty lost, all of them shifted.
    """

    network: Network
    source: Path
    is_mean: bool = False

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{' and '.join(m.name for m in self.network.measures)}, as float"

    def check(self, data: Data, models: int) -> None:
        """Any data will do."""
        del data, models

    def record(self, seen: Seen, first: Seen) -> Any:
        """Return both predictions."""
        return tuple(self.network.read(list(s.outputs.values()), self.source) for s in (seen, first))

    def cells(self, record: Any) -> dict[str, object]:
        """Nothing to show of a sample."""
        del record
        return {}

    def figures(self, records: Sequence[Any], samples: Sequence[Sample], data: Data) -> list[Figure]:
        """Return the mean of the measures over all samples."""
        del samples, data
        found, expected = zip(*records, strict=True)
        value = mean(measure.score(found, expected) for measure in self.network.measures)
        return [Figure(self.name, value, None, False, lambda _weights: value)]


def of_auto(  # what a way is given, and what it has
    model: Path,
    feeds: list[Feed],
    out: Path,
    network: Network,
    source: Path,
    march: str,
    budget: float | None = BUDGET,
) -> Search:
    """Search and quantize with what was chosen.

    Half of the calibration samples gives the ranges of the search, the other half judges: samples that gave
    the ranges find them good, and the test samples are for the table alone. Then all give the ranges.
    """
    samples = [Sample(str(n), arrays=feed) for n, feed in enumerate(feeds[1::2])]
    data = Data(Path("calibration"), samples, inputs={name: name for name in feeds[0]})
    found = search(
        model,
        feeds[::2],
        goal=Goal(budget, LATENCY),
        march=march,
        data=data,
        metric=AsFloat(network, source),
    )
    quantize(model, feeds, out, config=found.config)
    return found
