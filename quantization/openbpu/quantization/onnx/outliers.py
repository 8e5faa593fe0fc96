"""Few values far beyond all others: a range that is made for them leaves few steps for the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Array
from openbpu.quantization.ranges import Histogram, reached_range

FAR = 8.0
"""An outlier is larger than the rest by this factor: three bits of the codes are for it."""

_FEW = 0.005
"""Share of the values, zeros aside, that may be outliers; one value in any case."""

_LEAST = 64
"""Of fewer values nothing is said."""


def outlier_doubt(samples: Sequence[Array]) -> str | None:
    """Return what to doubt of an input whose largest magnitudes are few and far from the others."""
    parts = [_magnitudes(x) for x in samples]
    peaks = [float(x.max(initial=0.0)) for x in parts]
    top, total = max(peaks), sum(x.size for x in parts)
    if total < _LEAST or not top:
        return None
    seen = Histogram(peak=top)
    for x in parts:
        seen.add(x)
    most = reached_range(seen.counts, top, total - max(int(_FEW * total), 1))
    if top <= FAR * most:
        return None
    count = sum(int(np.count_nonzero(x > most)) for x in parts)
    others = f"{top / most:.0f} times what all but {count} of {total} values stay within"
    return f"the largest magnitude, {top:.4g} in sample {peaks.index(top)}, is {others}: is it a fault?"


def _magnitudes(x: Array) -> npt.NDArray[np.float64]:
    """Return the magnitudes that are finite and not 0, of any shape, as (values,)."""
    found = np.abs(np.asarray(x, dtype=np.float64)).reshape(-1)
    return found[np.isfinite(found) & (found > 0)]
