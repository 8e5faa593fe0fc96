"""Fitting a march's unpublished numbers: bounded least squares on log errors.

The optimiser is SciPy's. Numbers move on a logarithmic scale inside bounds that are physical; the errors are
log(predicted / published), so twice too slow counts as much as twice too fast, and outliers weigh less
(soft L1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from fidelity_data import Row
from fidelity_timing import Bench, Prediction
from scipy.optimize import least_squares

Floats = npt.NDArray[np.float64]
_STEP = 0.12
_OUTLIER = 0.1
_PRIOR = 0.1
"""Pull towards the start, in log error per factor of e: what the data do not decide stays where it was."""


@dataclass(frozen=True, slots=True)
class Knob:
    """One number to fit: its key in the march, and the bounds a chip of this kind can have."""

    key: str
    start: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Fit:
    """Fitted numbers and the log errors of every network with them."""

    knobs: tuple[Knob, ...]
    logs: Floats
    errors: Floats

    @property
    def values(self) -> dict[str, int]:
        """The fitted numbers."""
        return _values(self.knobs, self.logs)


def _values(knobs: Sequence[Knob], logs: Floats) -> dict[str, int]:
    return {k.key: min(max(round(float(np.exp(x))), k.low), k.high) for k, x in zip(knobs, logs, strict=True)}


def log_errors(bench: Bench, march: str, values: Mapping[str, int], rows: Sequence[Row]) -> Floats:
    """Time the rows' networks and return `log_errors_of` them."""
    return log_errors_of(rows, bench.predict(march, values, [r.model for r in rows]))


def log_errors_of(rows: Sequence[Row], found: Mapping[str, Prediction]) -> Floats:
    """Return log(predicted / published) of every row: of the time per frame, or else of one thread."""
    return np.array([np.log(_predicted(r, found[r.model]) / 1e3 / (r.measured or 1.0)) for r in rows])


def _predicted(row: Row, found: Prediction) -> float:
    return found.frame_on(row.cores) if row.frame else found.one_thread


def one_thread_errors(bench: Bench, march: str, values: Mapping[str, int], rows: Sequence[Row]) -> Floats:
    """Return log(predicted / published time in one thread) of every row."""
    found = bench.predict(march, values, [r.model for r in rows])
    return np.array([np.log(found[r.model].one_thread / 1e3 / (r.one_thread or 1.0)) for r in rows])


def fit(
    bench: Bench,
    march: str,
    knobs: Sequence[Knob],
    rows: Sequence[Row],
    rounds: int,
    wrong: Callable[[Bench, str, Mapping[str, int], Sequence[Row]], Floats] = log_errors,
) -> Fit:
    """Fit the knobs to the rows, from their first guesses; `wrong` says how far off every row is."""
    start = np.log([k.start for k in knobs])
    low, high = (np.log([max(getattr(k, side), 0.5) for k in knobs]) for side in ("low", "high"))

    def residuals(x: Floats) -> Floats:
        errors = wrong(bench, march, _values(knobs, x), rows)
        return np.concatenate([errors, _PRIOR * (x - start)])

    def slopes(x: Floats) -> Floats:
        here = residuals(x)
        columns = []
        for i in range(len(x)):
            step = _STEP if x[i] + _STEP <= high[i] else -_STEP
            moved = x.copy()
            moved[i] += step
            columns.append((residuals(moved) - here) / step)
        return np.stack(columns, axis=1)

    inside = np.clip(start, low + 1e-6, high - 1e-6)
    found = least_squares(
        residuals, inside, slopes, (low, high), loss="soft_l1", f_scale=_OUTLIER, max_nfev=rounds, x_scale=1.0
    )
    return Fit(tuple(knobs), found.x, residuals(found.x)[: len(rows)])
