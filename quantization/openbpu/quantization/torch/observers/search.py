"""Observers that clip outliers: the range that loses least by some measure."""

from __future__ import annotations

from typing import Any

import torch

from openbpu.quantization.torch.observers.base import SMALLEST_SCALE
from openbpu.quantization.torch.observers.minmax import MovingAverageMinMaxObserver

_EXACT = 1 << 11
"""Up to so many values an error is computed value by value."""

_BINS = 2048

_SAMPLE = 1 << 18
"""So many values of a batch are counted, and its largest one."""


class _ClippingObserver(MovingAverageMinMaxObserver):
    """Replaces max|x| of a batch by `threshold(x)`; per tensor."""

    def range_of(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the symmetric range ±threshold, one-sided where the values are."""
        low, high = torch.aminmax(x)
        limit = self.threshold(x.reshape(-1), torch.maximum(-low, high))
        return torch.maximum(low, -limit).reshape(1), torch.minimum(high, limit).reshape(1)

    def threshold(self, x: torch.Tensor, peak: torch.Tensor) -> torch.Tensor:
        """Return the magnitude to clip at; `x` is flat, `peak` is max|x| of the whole batch."""
        raise NotImplementedError

    def quantized(self, x: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
        """`x` rounded to the grid of a scale with max|x| = limit."""
        scale = (limit / ((self.dtype.max - self.dtype.min) / 2)).clamp_min(SMALLEST_SCALE)
        return torch.clamp(torch.round(x / scale), self.dtype.min, self.dtype.max) * scale


class MSEObserver(_ClippingObserver):
    """The one of `steps` fractions of max|x| with the least mean squared error."""

    def __init__(self, steps: int = 100, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = steps

    def threshold(self, x: torch.Tensor, peak: torch.Tensor) -> torch.Tensor:
        """Try every fraction; many values are first counted in bins."""
        if float(peak) == 0.0:
            return peak
        if x.numel() > _EXACT:
            return self._by_bins(x, peak)
        best, least = peak, None
        for step in range(self.steps, 0, -1):
            limit = peak * (step / self.steps)
            error = (self.quantized(x, limit) - x).square_().mean()
            if least is None or error < least:
                best, least = limit, error
        return best

    def _by_bins(self, x: torch.Tensor, peak: torch.Tensor) -> torch.Tensor:
        """Error of a limit L: step² / 12 for every value inside, (|x| − L)² for every one outside."""
        edge = float(peak)
        x = x[:: x.numel() // _SAMPLE + 1]
        counts = torch.histc(x, 2 * _BINS, -edge, edge).double()
        counts = counts[_BINS:] + counts[:_BINS].flip(0)
        counts[-1].clamp_(min=1.0)
        centre = (torch.arange(_BINS, dtype=torch.float64) + 0.5) * (edge / _BINS)
        outside = [(counts * centre**k).flip(0).cumsum(0).flip(0) for k in range(3)]
        tail = [torch.cat([t, torch.zeros(1, dtype=torch.float64)]) for t in outside]
        limit = torch.arange(1, self.steps + 1, dtype=torch.float64) * (edge / self.steps)
        first = (torch.ceil(limit / edge * _BINS - 0.5)).long().clamp(0, _BINS)
        clipped = tail[2][first] - 2 * limit * tail[1][first] + limit**2 * tail[0][first]
        step = limit / ((self.dtype.max - self.dtype.min) / 2)
        noise = (counts.sum() - tail[0][first]) * step**2 / 12
        return peak * ((int((clipped + noise).argmin()) + 1) / self.steps)


class PercentileObserver(_ClippingObserver):
    """The magnitude below which `percentile` % of the values lie, from a histogram of `bins`."""

    def __init__(self, percentile: float = 99.99, bins: int = 2048, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.percentile, self.bins = percentile, bins

    def threshold(self, x: torch.Tensor, peak: torch.Tensor) -> torch.Tensor:
        """Return the upper edge of the bin that completes the percentile."""
        if float(peak) == 0.0:
            return peak
        counts = torch.histc(x.abs(), self.bins, 0.0, float(peak))
        reached = torch.cumsum(counts, 0) >= counts.sum() * (self.percentile / 100)
        return peak * ((int(reached.float().argmax()) + 1) / self.bins)


class KLObserver(_ClippingObserver):
    """The clipping with the least Kullback-Leibler divergence between histogram and quantized histogram."""

    def __init__(self, bins: int = 2048, levels: int = 128, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins, self.levels = bins, levels

    def threshold(self, x: torch.Tensor, peak: torch.Tensor) -> torch.Tensor:
        """Search the histogram of |x| from `levels` bins upwards."""
        if float(peak) == 0.0:
            return peak
        counts = torch.histc(x.abs(), self.bins, 0.0, float(peak)).double()
        best, least = self.bins, float("inf")
        for edge in range(self.levels, self.bins + 1, max(self.levels // 8, 1)):
            divergence = self._divergence(counts, edge)
            if divergence < least:
                best, least = edge, divergence
        return peak * (best / self.bins)

    def _divergence(self, counts: torch.Tensor, edge: int) -> float:
        kept = counts[:edge].clone()
        kept[-1] += counts[edge:].sum()
        group = (torch.arange(edge) * self.levels) // edge
        used = (counts[:edge] > 0).double()
        zeros = torch.zeros(self.levels, dtype=torch.float64)
        mass = zeros.index_add(0, group, counts[:edge])
        spread = mass[group] / zeros.index_add(0, group, used).clamp_min(1)[group] * used
        p, q = kept / kept.sum(), spread / spread.sum().clamp_min(1e-30)
        inside = p > 0
        return float((p[inside] * torch.log(p[inside] / q[inside].clamp_min(1e-30))).sum())


HistogramObserver = KLObserver
"""The vendor's name for the search over a histogram."""


class MixObserver(_ClippingObserver):
    """The best by mean squared error of the extremes, MSE, percentile and KL."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._searches = tuple(o(**kwargs) for o in (MSEObserver, PercentileObserver, KLObserver))

    def threshold(self, x: torch.Tensor, peak: torch.Tensor) -> torch.Tensor:
        """Try each and keep the one that loses least."""
        limits = [peak, *(search.threshold(x, peak) for search in self._searches)]
        return min(limits, key=lambda limit: float((self.quantized(x, limit) - x).square().mean()))
