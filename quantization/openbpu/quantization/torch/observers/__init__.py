"""Observers: they watch values and propose a scale."""

from openbpu.quantization.torch.observers.base import Observer, symmetric_scale
from openbpu.quantization.torch.observers.minmax import (
    ClipObserver,
    FixedScaleObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
)
from openbpu.quantization.torch.observers.search import (
    HistogramObserver,
    KLObserver,
    MixObserver,
    MSEObserver,
    PercentileObserver,
)

__all__ = [
    "ClipObserver",
    "FixedScaleObserver",
    "HistogramObserver",
    "KLObserver",
    "MSEObserver",
    "MinMaxObserver",
    "MixObserver",
    "MovingAverageMinMaxObserver",
    "MovingAveragePerChannelMinMaxObserver",
    "Observer",
    "PerChannelMinMaxObserver",
    "PercentileObserver",
    "symmetric_scale",
]
