"""What is added up about one unit over all samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Array
from openbpu.evaluation.analysis.counts import Picture
from openbpu.evaluation.analysis.rounding import Rounding
from openbpu.evaluation.analysis.units import Unit
from openbpu.quantization.measures import Closeness, Sums
from openbpu.quantization.ranges import Histogram

_CHANNELS = 8192
"""Channels that are looked at one by one, at most."""


@dataclass(slots=True)
class Codes:
    """The codes that the float run's values get from a pair, counted."""

    pair: Rounding
    seen: npt.NDArray[np.bool_] = field(init=False)
    values: int = 0
    clipped: int = 0
    nonzero: int = 0
    vanished: int = 0

    def __post_init__(self) -> None:
        low, high = self.pair.limits
        self.seen = np.zeros(high - low + 1, dtype=np.bool_)

    def add(self, x: Array) -> None:
        """Count the finite values of a batch."""
        flat = x.reshape(-1)
        low, high = self.pair.limits
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.rint(flat / np.float32(self.pair.step))
        found = found[np.isfinite(found)]
        inside = np.clip(found, low, high)
        self.values += found.size
        self.clipped += int(np.count_nonzero(inside != found))
        self.seen[np.unique(inside.astype(np.int32)) - low] = True
        nonzero = int(np.count_nonzero(flat))
        self.nonzero += nonzero
        self.vanished += max(nonzero - int(np.count_nonzero(found)), 0)


class Watch:
    """Adds up what one unit shows. pictures: whether values are counted for histograms."""

    def __init__(self, unit: Unit, *, pictures: bool) -> None:
        self.unit = unit
        self.so_far, self.alone, self.inside, self.simulated = Sums(), Sums(), Sums(), Sums()
        self.codes = Codes(unit.rounding) if unit.rounding and unit.rounding.counted else None
        self.magnitudes = Histogram()
        self.least, self.largest = inf, -inf
        self.peaks: Array | None = None
        self.cut, self.stepped = 0.0, 0.0
        self.deviating, self.compared = 0, 0
        self.shown, self.hidden = False, False
        self.values = Picture() if pictures else None
        self.rounded = Picture() if pictures else None

    def add(self, expected: Array, made: Array) -> None:
        """Take a sample of the float run and of the QDQ run."""
        expected, made = self._unmasked(expected, made)
        self.so_far.add(expected, made)
        if self.unit.moved:
            self.alone.add(expected, expected)
        finite = expected if np.isfinite(expected).all() else expected[np.isfinite(expected)]
        if finite.size:
            self.least = min(self.least, float(finite.min()))
            self.largest = max(self.largest, float(finite.max()))
        if self.codes is not None:
            self.codes.add(expected)
            self.magnitudes.add(finite.astype(np.float32, copy=False))
            self._add_channels(expected)
        if self.values is not None and self.rounded is not None:
            self.values.add(expected)
            self.rounded.add(made)

    def add_alone(self, expected: Array, raw: Array, value: Array) -> None:
        """Take a sample of the unit alone, before and behind its pair.

        value − expected = what the range cuts off + what differs inside the range + what the steps add; a
        pair that cuts negative values off may stand for a Relu.
        """
        expected, raw, value = self._unmasked(expected, raw, value)
        self.alone.add(expected, value)
        if self.codes is None or not raw.shape == value.shape == expected.shape:
            self.inside.add(expected, raw)
            return
        low, high = (limit * (self.codes.pair.step or 1.0) for limit in self.codes.pair.limits)
        with np.errstate(invalid="ignore", over="ignore"):
            within, meant = np.clip(raw, low, high), np.clip(expected, low, high)
            self.inside.add(meant, within)
            self.cut += _squares(expected, meant)
            self.stepped += _squares(value, within)

    def add_simulated(self, expected: Array, found: Array, deviating: int) -> None:
        """Take a sample of the binary: its values, and how many of its codes the QDQ run has otherwise."""
        self.shown = True
        expected, found = self._unmasked(expected, found)
        self.simulated.add(expected, found)
        self.deviating += deviating
        self.compared += found.size

    def _unmasked(self, expected: Array, *others: Array) -> tuple[Array, ...]:
        """Leave out what a mask hides from a Softmax."""
        place = self.unit.softmax
        shown = place.shown(expected) if place is not None else None
        if shown is None or any(other.shape != expected.shape for other in others):
            return (expected, *others)
        self.hidden = True
        return tuple(x[shown] for x in (expected, *others))

    def _add_channels(self, x: Array) -> None:
        axis = 1 if x.ndim == 4 else x.ndim - 1
        if x.ndim < 2 or not 1 < x.shape[axis] <= _CHANNELS or not x.size:
            return
        found = np.abs(x).max(axis=tuple(i for i in range(x.ndim) if i != axis))
        if self.peaks is None or self.peaks.shape != found.shape:
            self.peaks = found
        self.peaks = np.maximum(self.peaks, found)

    @property
    def unevenness(self) -> float | None:
        """The largest channel's range over that of the median one; None without channels."""
        if self.peaks is None or not np.isfinite(self.peaks).all():
            return None
        middle = float(np.median(self.peaks.astype(np.float64)))
        return float(self.peaks.max()) / middle if middle > 0 else None

    def simulation(self) -> Closeness | None:
        """Return how close the binary is; None where it shows nothing."""
        return self.simulated.closeness() if self.shown else None


def _squares(a: Array, b: Array) -> float:
    """Return the sum of squared differences, of those that are finite."""
    return float(np.nan_to_num(np.square(a.astype(np.float64) - b), posinf=0.0, neginf=0.0).sum())
