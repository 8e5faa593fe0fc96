"""A set of samples, and how it is told from another one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openbpu.evaluation.accuracy.data.sample import Sample


@dataclass(frozen=True, slots=True)
class Data:
    """Samples in their order.

    where: what the user named · classes: names by label, () where there are none · inputs: of arrays, which
    one an input of the first model takes · truth: COCO's document · told: what to know of them, in words.
    """

    where: Path
    samples: Sequence[Sample]
    classes: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    truth: Mapping[str, Any] | None = None
    told: tuple[str, ...] = ()

    def name_of(self, label: int) -> str:
        """Return the name of a class, its number where it has none."""
        return self.classes[label] if 0 <= label < len(self.classes) else str(label)

    def digest(self) -> str:
        """Return what tells these samples, their labels and their content from any others."""
        made = hashlib.sha256()
        for n in range(len(self.samples)):
            _add(made, self.samples[n])
        if self.truth is not None:
            made.update(json.dumps(self.truth, sort_keys=True).encode())
        return made.hexdigest()


def _add(made: Any, sample: Sample) -> None:
    made.update(json.dumps([sample.key, sample.size]).encode())
    if sample.path is not None:
        made.update(hashlib.sha256(sample.path.read_bytes()).digest())
    label = sample.label
    if isinstance(label, np.ndarray):
        made.update(f"{label.dtype}{label.shape}".encode() + label.tobytes())
    else:
        made.update(json.dumps(label).encode())
    for name, array in sample.arrays.items():
        made.update(f"{name}{array.dtype}{array.shape}".encode() + array.tobytes())


def evenly(total: int, limit: int | None) -> list[int]:
    """Return the numbers of at most `limit` samples, spread over all: folders come class by class."""
    if limit is None or limit >= total:
        return list(range(total))
    return [n * total // limit for n in range(limit)]
