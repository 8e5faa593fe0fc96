"""Histograms of a tensor: the float run's values, filled; what the quantized run makes of them, a line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from openbpu.report.page.parts import Mark, Plot

if TYPE_CHECKING:
    from openbpu.evaluation.analysis import Counts, NodeError

_HIGH = 110
_FEWEST = 48
_STEPS = 4
"""Bins hold this many steps at least where enough of them are left: else codes per bin take turns."""
KEY = (("grey", "float"), ("vae", "quantized"), ("red", "range of the codes"))


def histogram(row: NodeError) -> Plot | str:
    """Draw the values of a node's result; "" where none were counted. Heights are logarithms of counts."""
    if row.values is None or not row.values.counts:
        return ""
    pictures = [row.values, *([row.rounded] if row.rounded is not None and row.rounded.counts else [])]
    width = max(counts.width for counts in pictures)
    low = min(counts.start for counts in pictures)
    high = max(counts.start + counts.width * len(counts.counts) for counts in pictures)
    while row.step and width < _STEPS * row.step and (high - low) / width > _FEWEST:
        width *= 2
    first, last = math.floor(low / width), math.ceil(high / width)
    bins = [_bins(counts, width, first, last - first) for counts in pictures]
    most = math.log1p(max(max(found) for found in bins))
    marks = [Mark("grey", _steps(bins[0], most) + "V1000H0z")]
    marks += [Mark("vae", _steps(found, most), "line") for found in bins[1:]]
    low, high = first * width, last * width
    marks += [Mark("red dash", f"M{x:.1f} 0V1000", "line") for x in _ends(row, low, high)]
    below = [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]
    if low < 0 < high and 0.2 < -low / (high - low) < 0.8:
        below.insert(1, (-low / (high - low), "0"))
    said = f"values of {row.tensor}"
    return Plot(said, marks, _HIGH, below=below)


def _bins(counts: Counts, width: float, first: int, n: int) -> list[int]:
    """Return the counts in n bins of `width` from first·width on."""
    found = [0] * n
    for k, count in enumerate(counts.counts):
        found[min(math.floor((counts.start + (k + 0.5) * counts.width) / width) - first, n - 1)] += count
    return found


def _steps(bins: list[int], most: float) -> str:
    wide = 1000 / len(bins)
    tops = [round(1000 - 1000 * math.log1p(count) / most) for count in bins]
    path = f"M0 1000V{tops[0]}"
    for k, top in enumerate(tops):
        if k and top != tops[k - 1]:
            path += f"H{k * wide:.1f}V{top}".replace(".0V", "V")
    return path + "H1000"


def _ends(row: NodeError, low: float, high: float) -> list[float]:
    """Return where the range of the codes ends, in thousandths, as far as that is in the picture."""
    return [1000 * (x - low) / (high - low) for x in row.range or () if low < x < high]
