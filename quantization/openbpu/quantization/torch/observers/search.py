"""Observers that clip outliers: the range that loses least by some measure."""

from __future__ import annotations

from typing import Any

import torch

from openbpu.quantization.torch.observers.base import SMALLEST_SCALE
from openbpu.quantization.torch.observers.minmax import MovingAverageMinMaxObserver

_SAMPLE = 1 << 20
"""Elements of a batch that a search looks at: a stride keeps it affordable."""


class _ClippingObserver(MovingAverageMinMaxObserver):
    """Replaces max|x| of a batch by `threshold(x)`; per tensor."""

    def range_of(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the symmetric range ±threshold, one-sided where the values are."""
        low, high = torch.aminmax(x)
        flat = x.reshape(-1)
        if flat.numel() > _SAMPLE:
            flat = flat[:: flat.numel() // _SAMPLE + 1]
        limit = self.threshold(flat, torch.maximum(-low, high))
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
        """Search from max|x| downwards; the error has one valley, so the search stops behind it."""
        best, least, worse = peak, None, 0
        for step in range(self.steps, 0, -1):
            limit = peak * (step / self.steps)
            error = (self.quantized(x, limit) - x).square_().mean()
            if least is None or error < least:
                best, least, worse = limit, error, 0
            else:
                worse += 1
                if worse > self.steps // 5:
                    break
        return best


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
