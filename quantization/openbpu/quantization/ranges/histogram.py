"""Counts of magnitudes that come batch by batch, their largest one unknown until the last."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch.errors import QuantizationError, must

BINS = 2048
"""Bins that a range is read off."""

FINE = 16
"""Bins are kept so many times finer: a later batch with a larger peak moves the edges of the final ones."""

RAW = 1 << 18
"""So many values are kept as they are."""

_PIECES = 64
"""They lie in so many arrays at most."""

_CHUNK = 1 << 17
"""Values that are placed at once: their float64 copies stay in the cache."""

_SMALLEST = 1e-290
"""Peaks below it count as this one: the number of bins per unit must stay finite."""

Counts = npt.NDArray[np.int64]


def finite_peak(x: npt.NDArray[Any], where: str, fix: str) -> float:
    """Return max|x|, 0 for no element; raises QuantizationError, which ends in `fix`, for NaN and infinity.

    The rule of every door: data with such values have no range, so they are refused, not skipped.
    """
    if not x.size:
        return 0.0
    high, low = float(x.max()), float(x.min())
    if not np.isfinite([high, low]).all():
        raise QuantizationError(must(where, "every value", "finite", "NaN or infinite", fix))
    return max(high, -low)


class Histogram:
    """How many |x| lie in each of `bins` equal bins over 0 … `peak`, the largest seen.

    Batches may come in any order and size, their peaks growing or not. The first RAW values are kept as
    they are, so the counts of so many are exact. Those of more values are kept in bins that are finer, and
    that are merged two by two when the range has doubled: no value is lost, and none is further than 1 / FINE
    of a bin from its place. `bins` >= 2. Where the peak is known beforehand, `peak` gives it: the counts are
    then exact and need neither.
    """

    def __init__(self, bins: int = BINS, peak: float = 0.0) -> None:
        self.bins = bins
        self.peak = peak
        self.total = 0
        self._raw: list[npt.NDArray[Any]] = []
        self._rate = bins / max(peak, _SMALLEST) if peak else 0.0  # fine bins per unit
        # Empty as long as the values are raw.
        self._fine: Counts = np.zeros(2 * bins + 2 if peak else 0, dtype=np.int64)

    def add(self, x: npt.NDArray[Any]) -> None:
        """Count a batch of finite values, of any shape and float dtype."""
        flat = np.abs(np.asarray(x).reshape(-1))
        if not flat.size:
            return
        self.peak = max(self.peak, float(flat.max()))
        self.total += flat.size
        self._raw.append(flat)
        if len(self._fine) or self.total > RAW:
            self._refine()
        elif len(self._raw) > _PIECES:
            self._raw = [np.concatenate(self._raw)]

    def _refine(self) -> None:
        """Count the raw values in the fine bins, and make room for them first."""
        if not len(self._fine):
            self._fine = np.zeros(2 * self.bins * FINE + 2, dtype=np.int64)
        if not self._rate and self.peak:  # what was counted before is zeros, in the first bin already
            self._rate = self.bins * FINE / max(self.peak, _SMALLEST)
        while int(self.peak * self._rate) >= len(self._fine):
            merged = self._fine.reshape(-1, 2).sum(axis=1)
            self._fine[: len(merged)], self._fine[len(merged) :] = merged, 0
            self._rate /= 2
        for values in self._raw:
            found = _placed(values, self._rate)
            self._fine[: len(found)] += found
        self._raw = []

    @property
    def counts(self) -> Counts:
        """The counts [bins] over 0 … peak; the last bin holds the peak. Zeros alone are in the first one."""
        rate = self.bins / max(self.peak, _SMALLEST)
        found = np.zeros(self.bins + 1, dtype=np.int64)
        for values in self._raw:
            part = _placed(values, rate)
            found[: len(part)] += part
        found[self.bins - 1] += found[self.bins]  # the edge of the last bin belongs to it
        if not len(self._fine):
            return found[:-1]
        if not self._rate:
            found[0] += self._fine[0]
            return found[:-1]
        place = np.minimum((np.arange(len(self._fine)) + 0.5) * (rate / self._rate), self.bins - 1)
        np.add.at(found, place.astype(np.int64), self._fine)
        return found[:-1]


def _placed(magnitudes: npt.NDArray[Any], rate: float) -> Counts:
    """Return how many magnitudes lie in each bin of width 1 / rate, as far as there are any."""
    found: Counts = np.zeros(0, dtype=np.int64)
    for start in range(0, magnitudes.size, _CHUNK):
        place = (magnitudes[start : start + _CHUNK].astype(np.float64) * rate).astype(np.int64)
        part = np.bincount(place, minlength=len(found))
        part[: len(found)] += found
        found = part
    return found
