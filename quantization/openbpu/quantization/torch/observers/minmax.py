"""Observers of the smallest and largest value."""

from __future__ import annotations

from typing import Any

import torch

from openbpu.quantization.torch.observers.base import Observer


class MinMaxObserver(Observer):
    """The extremes of all batches."""


class PerChannelMinMaxObserver(MinMaxObserver):
    """The extremes of all batches, per channel (`ch_axis`, 0 by default)."""

    def __init__(self, ch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(ch_axis=max(ch_axis, 0), **kwargs)


class MovingAverageMinMaxObserver(Observer):
    """A moving average of the batches' extremes: new = old + averaging_constant · (batch − old)."""

    def __init__(self, averaging_constant: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.averaging_constant = averaging_constant

    def update(self, low: torch.Tensor, high: torch.Tensor) -> None:
        """Merge the range of one batch."""
        if self.observed and self.averaging_constant != 1.0:
            low = torch.lerp(self.min_val, low, self.averaging_constant)
            high = torch.lerp(self.max_val, high, self.averaging_constant)
        self.min_val, self.max_val = low, high


class MovingAveragePerChannelMinMaxObserver(MovingAverageMinMaxObserver):
    """A moving average of the extremes per channel (`ch_axis`, 0 by default)."""

    def __init__(self, ch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(ch_axis=max(ch_axis, 0), **kwargs)


class ClipObserver(MovingAverageMinMaxObserver):
    """A moving average whose range is clipped to `xmin`..`xmax` (or ±`xmax`)."""

    def __init__(self, xmin: float | None = None, xmax: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.xmin, self.xmax = -xmax if xmin is None else xmin, xmax

    def range_of(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the clipped range of one batch."""
        low, high = super().range_of(x)
        return low.clamp(self.xmin, self.xmax), high.clamp(self.xmin, self.xmax)


class FixedScaleObserver(Observer):
    """Looks at nothing: the scale is given."""

    def __init__(self, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not scale > 0:
            raise ValueError(f"FixedScaleObserver: scale must be above 0, not {scale}")
        self.fixed_scale = float(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x`."""
        return x

    def extra_repr(self) -> str:
        """The scale."""
        return f"scale={self.fixed_scale}"
