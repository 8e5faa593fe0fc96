"""`openbpu quantize --auto` on a network of `accuracy.py`: by its first measure, on calibration samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accuracy_networks import Feed, Network

from openbpu.evaluation.accuracy.data import Data, Sample
from openbpu.evaluation.accuracy.metrics import Figure, Seen
from openbpu.evaluation.search import Goal, Search, search
from openbpu.quantization.onnx import quantize

BUDGET, LATENCY = 0.002, 0.15
"""Within 1 % on the test samples is wanted; these are others, and few: so less is asked for."""


@dataclass(frozen=True)
class AsFloat:
    """The first measure of a network, against what the float model says: labels are for the test."""

    network: Network
    source: Path
    is_mean: bool = False

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{self.network.measures[0].name}, as float"

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
        """Return the measure over all samples."""
        del samples, data
        found, expected = zip(*records, strict=True)
        value = self.network.measures[0].score(found, expected)
        return [Figure(self.name, value, None, False, lambda _weights: value)]


def of_auto(model: Path, feeds: list[Feed], out: Path, network: Network, source: Path, march: str) -> Search:
    """Search and quantize with what was chosen.

    The samples that calibrate also judge: a tenth of so few would say little, and the test samples are for
    the table alone.
    """
    samples = [Sample(str(n), arrays=feed) for n, feed in enumerate(feeds)]
    data = Data(Path("calibration"), samples, inputs={name: name for name in feeds[0]})
    found = search(
        model,
        feeds,
        goal=Goal(BUDGET, LATENCY),
        march=march,
        data=data,
        metric=AsFloat(network, source),
        limit=32,
    )
    quantize(model, feeds, out, config=found.config)
    return found
