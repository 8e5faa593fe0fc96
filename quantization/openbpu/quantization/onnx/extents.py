"""What is seen of a tensor over the calibration set: its ends, whether all are whole, the depth of rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from openbpu.arch.arrays import Array


@dataclass(slots=True)
class Extent:
    """The least and the largest value seen, whether all were whole numbers, and how many there were."""

    low: float = np.inf
    high: float = -np.inf
    whole: bool = True
    count: int = 0

    def add(self, x: Array, *, ask_whole: bool = False) -> None:
        """Take in finite values of any shape."""
        if x.size:
            self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
            self.whole = self.whole and ask_whole and bool((x == np.rint(x)).all())
            self.count += x.size

    @property
    def seen(self) -> bool:
        """Whether there was any value."""
        return self.low <= self.high

    @property
    def top(self) -> float:
        """The largest magnitude."""
        return max(self.high, -self.low, 0.0)


@dataclass(slots=True)
class Depths:
    """Values of which the least above any level can be told later: the least one of each quarter octave."""

    _least: dict[int, float] = field(default_factory=dict)

    def add(self, x: Array) -> None:
        """Take in finite values of any shape."""
        flat = np.asarray(x, dtype=np.float64).reshape(-1)
        if not flat.size:
            return
        octave = np.where(flat < 0, np.rint(4 * np.log2(np.maximum(-flat, 1e-9))), -200).astype(np.int64)
        order = np.lexsort((flat, octave))
        bins, first = np.unique(octave[order], return_index=True)
        for key, value in zip(bins.tolist(), flat[order][first].tolist(), strict=True):
            self._least[key] = min(self._least.get(key, np.inf), value)

    def above(self, level: float) -> float:
        """Return the least value kept that is above `level`; infinity where there is none."""
        return min((v for v in self._least.values() if v > level), default=np.inf)
