"""Metrics: what is kept of every sample, and the figure that all of them give."""

from openbpu.evaluation.accuracy.metrics.base import Figure, Metric, OfClass, Seen
from openbpu.evaluation.accuracy.metrics.choose import make_metrics

__all__ = ["Figure", "Metric", "OfClass", "Seen", "make_metrics"]
