"""Observers that clip outliers: the range that loses least by some measure, of all that was seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from openbpu.arch.errors import must
from openbpu.quantization.ranges import (
    BINS,
    Histogram,
    entropy_range,
    fractions,
    grid,
    mse_range,
    percentile_range,
)
from openbpu.quantization.torch.dtype import QDType, as_qdtype
from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.observers.base import Observer


class SearchingObserver(Observer):
    """Counts the magnitudes of all batches in a histogram of `bins` and reads a range ± `limit` off it.

    averaging_constant: None takes all batches as one. A number forgets, for training, in which what is seen
    drifts: every batch has a range of its own, and new = old + averaging_constant · (batch − old).
    Per tensor. Only the range is in a checkpoint, not the histogram.
    """

    def __init__(
        self, bins: int = BINS, averaging_constant: float | None = None, ch_axis: int = -1, **kwargs: Any
    ) -> None:
        super().__init__(ch_axis=ch_axis, **kwargs)
        self.bins, self.averaging_constant = bins, averaging_constant
        self.seen, self.low, self.high = Histogram(bins), math.inf, -math.inf

    def limit(self, seen: Histogram) -> float:
        """Return the magnitude to clip at; `seen` holds at least one value above 0."""
        raise NotImplementedError

    def range_of(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the clipped range of one batch, or of it and those before; one-sided as the values are."""
        low, high = torch.aminmax(x)
        if not bool(torch.isfinite(torch.stack([low, high])).all()):
            return low.reshape(1), high.reshape(1)  # which are refused
        if self.averaging_constant is not None:
            self.reset()
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        self.seen.add(x.cpu().numpy())
        return self.clipped(x.device)

    def clipped(self, device: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the range of what was seen, [1] each."""
        limit = self.limit(self.seen) if self.seen.peak else 0.0
        low, high = max(self.low, -limit), min(self.high, limit)
        return torch.tensor([low], device=device), torch.tensor([high], device=device)

    def reset(self) -> None:
        """Forget what was seen."""
        self.seen, self.low, self.high = Histogram(self.bins), math.inf, -math.inf

    def update(self, low: torch.Tensor, high: torch.Tensor) -> None:
        """Take the range of all batches, or merge the last one's into the average."""
        if self.averaging_constant is not None and self.observed:
            low = torch.lerp(self.min_val, low, self.averaging_constant)
            high = torch.lerp(self.max_val, high, self.averaging_constant)
        self.min_val, self.max_val = low, high


class MSEObserver(SearchingObserver):
    """The one of `steps` fractions of max|x| with the least mean squared error."""

    def __init__(self, steps: int = 100, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = steps

    def limit(self, seen: Histogram) -> float:
        """Try every fraction."""
        return mse_range(seen.counts, seen.peak, fractions(seen.peak, self.steps), grid(self.dtype.storage))


class PercentileObserver(SearchingObserver):
    """The magnitude below which `percentile` % of the values lie."""

    def __init__(self, percentile: float = 99.99, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= percentile <= 100:
            raise ValueError(must(type(self).__name__, "percentile", "within 0..100", percentile))
        self.percentile = percentile

    def limit(self, seen: Histogram) -> float:
        """Return the upper edge of the bin that completes the percentile."""
        return percentile_range(seen.counts, seen.peak, self.percentile)


class KLObserver(SearchingObserver):
    """The clipping with the least Kullback-Leibler divergence between histogram and quantized histogram.

    levels: magnitudes of a code; that of the dtype (128 for int8) unless given.
    """

    def __init__(self, levels: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.levels = self.dtype.max + 1 if levels is None else levels

    def limit(self, seen: Histogram) -> float:
        """Search from as many bins as levels upwards."""
        return entropy_range(seen.counts, seen.peak, self.levels)


_METHODS: dict[str, type[SearchingObserver]] = {
    "mse": MSEObserver,
    "percentile": PercentileObserver,
    "kl": KLObserver,
}


class MixObserver(SearchingObserver):
    """The best by mean squared error of the extremes, MSE, percentile and KL.

    chosen: which of them that was, "max", "mse", "percentile" or "kl"; empty before the first batch.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._searches = {name: search(**kwargs) for name, search in _METHODS.items()}
        self.chosen = ""

    def limit(self, seen: Histogram) -> float:
        """Try each and keep the one that loses least."""
        limits = {"max": seen.peak, **{name: search.limit(seen) for name, search in self._searches.items()}}
        best = mse_range(seen.counts, seen.peak, limits.values(), grid(self.dtype.storage))
        self.chosen = next(name for name, limit in limits.items() if limit == best)
        return best

    def extra_repr(self) -> str:
        """The range and the criterion it comes from."""
        return f"{super().extra_repr()}, chosen={self.chosen!r}"


class HistogramObserver(SearchingObserver):
    """Keeps the histogram, so that the scale can be solved again without new data; by least squared error.

    method: "mse", "percentile" or "kl", with method_kwargs for the observer of that name.
    """

    def __init__(
        self, method: str = "mse", method_kwargs: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.solve_by(method, method_kwargs)

    def solve_by(self, method: str, method_kwargs: Mapping[str, Any] | None = None) -> None:
        """Choose the criterion, and the range again by it where something was seen."""
        if method not in _METHODS:
            allowed = " or ".join(repr(name) for name in _METHODS)
            raise ValueError(must(type(self).__name__, "method", allowed, repr(method)))
        self.method = method
        self._search = _METHODS[method](dtype=self.dtype, bins=self.bins, **(method_kwargs or {}))
        if self.seen.total:
            self.min_val, self.max_val = self.clipped(self.min_val.device)

    def limit(self, seen: Histogram) -> float:
        """Ask the criterion."""
        return self._search.limit(seen)

    @staticmethod
    def reset_scale(
        model: nn.Module,
        method: str = "mse",
        method_kwargs: Mapping[str, Any] | None = None,
        dtype: QDType | str | None = None,
        prefix: str = "",
    ) -> None:
        """Solve the scales of a calibrated model again, by another criterion and without new data.

        Of its quantizers that have a HistogramObserver: those of `dtype`, whose path begins with `prefix`.
        Raises PrepareError where none of them has seen data.
        """
        wanted = None if dtype is None else as_qdtype(dtype)
        found = [
            (module, observer)
            for name, module in model.named_modules()
            if isinstance(observer := getattr(module, "activation_post_process", None), HistogramObserver)
            and observer.seen.total
            and name.startswith(prefix)
            and wanted in {None, observer.dtype}
        ]
        if not found:
            fix = "calibrate with this observer first, in the same process: a checkpoint keeps no histograms"
            raise PrepareError(must("reset_scale", "quantizers with a histogram", "at least 1", 0, fix))
        for quantizer, observer in found:
            observer.solve_by(method, method_kwargs)
            quantizer.take_qparams()
