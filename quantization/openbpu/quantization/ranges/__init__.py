"""Which range a tensor's scale is made of: histograms of magnitudes, and criteria that read a range off one.

The one implementation behind `openbpu quantize`, the observers of `.torch` and the calibrators of
`.torch.lowlevel`. numpy only.

    percentile  the magnitude that so many per cent of the values do not exceed
    mse         the range, of those tried, that is quantized with the least squared error
    entropy     the range whose quantized distribution diverges least (Kullback-Leibler) from the observed one

All work on the counts of |x| in equal bins over 0 … the largest magnitude.
"""

from openbpu.quantization.ranges.entropy import entropy_range
from openbpu.quantization.ranges.histogram import BINS, Histogram, finite_peak
from openbpu.quantization.ranges.search import fractions, grid, mse_range, percentile_range, squared_errors

__all__ = [
    "BINS",
    "Histogram",
    "entropy_range",
    "finite_peak",
    "fractions",
    "grid",
    "mse_range",
    "percentile_range",
    "squared_errors",
]
