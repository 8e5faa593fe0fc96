"""Which range a tensor's scale is made of: histograms of magnitudes, and criteria that read a range off one.

The one implementation behind `openbpu quantize`, the observers of `.torch` and the calibrators of
`.torch.lowlevel`. numpy only.

    percentile  the magnitude that so many per cent of the values do not exceed
    mse         the range, of those tried, that is quantized with the least squared error
    entropy     the range whose quantized distribution diverges least (Kullback-Leibler) from the observed one

A range that counts as zero is replaced by one that a scale can be made of (`usable_range`).
All work on the counts of |x| in equal bins over 0 … the largest magnitude.
"""

from openbpu.quantization.ranges.entropy import entropy_range
from openbpu.quantization.ranges.histogram import BINS, Histogram, finite_peak
from openbpu.quantization.ranges.search import (
    Halves,
    Rounded,
    fractions,
    grid,
    mse_range,
    percentile_range,
    reached_range,
    squared_errors,
)
from openbpu.quantization.ranges.usable import SMALLEST_RANGE, ZERO_RANGE, usable_range

__all__ = [
    "BINS",
    "SMALLEST_RANGE",
    "ZERO_RANGE",
    "Halves",
    "Histogram",
    "Rounded",
    "entropy_range",
    "finite_peak",
    "fractions",
    "grid",
    "mse_range",
    "percentile_range",
    "reached_range",
    "squared_errors",
    "usable_range",
]
