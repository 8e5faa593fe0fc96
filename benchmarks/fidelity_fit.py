"""Fitting the unpublished numbers of marches: bounded least squares on log errors.

The optimiser is SciPy's. Numbers move on a logarithmic scale inside bounds that are physical; the errors are
log(predicted / published), so twice too slow counts as much as twice too fast, and outliers weigh less
(soft L1). Rows may be of several marches that share a core: a knob is then that of all of them, or of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from fidelity_data import Row
from fidelity_timing import Bench, Prediction
from scipy.optimize import least_squares

Floats = npt.NDArray[np.float64]
Values = dict[str, dict[str, int]]
"""March → its changed numbers."""
Wrong = Callable[[Bench, Values, Sequence[Row]], Floats]
"""Says how far off every row is when numbers are changed."""
_STEP = 0.12
_OUTLIER = 0.1
_PRIOR = 0.1
"""Pull towards the start, in log error per factor of e: what the data do not decide stays where it was."""


@dataclass(frozen=True, slots=True)
class Knob:
    """One number to fit: its key, the bounds a chip of this kind can have, and the march whose it is
    (empty: of all that are fitted together).
    """

    key: str
    start: int
    low: int
    high: int
    march: str = ""


@dataclass(frozen=True, slots=True)
class Fit:
    """Fitted numbers, the log errors of every row with them, and how these change: [rows, knobs]."""

    knobs: tuple[Knob, ...]
    logs: Floats
    errors: Floats
    slopes: Floats

    def values(self, march: str) -> dict[str, int]:
        """The fitted numbers of a march."""
        return _values(self.knobs, self.logs, (march,))[march]


def _values(knobs: Sequence[Knob], logs: Floats, marches: Sequence[str]) -> Values:
    found: Values = {march: {} for march in marches}
    for k, x in zip(knobs, logs, strict=True):
        for march in marches:
            if k.march in {"", march}:
                found[march][k.key] = min(max(round(float(np.exp(x))), k.low), k.high)
    return found


def frame_errors(bench: Bench, values: Values, rows: Sequence[Row]) -> Floats:
    """Time the rows' networks and return `log_errors_of` them."""
    return log_errors_of(rows, _predicted(bench, values, rows))


def log_errors_of(rows: Sequence[Row], found: Sequence[Prediction]) -> Floats:
    """Return log(predicted / published) of every row: of the time per frame, or else of one thread."""
    pairs = zip(rows, found, strict=True)
    return np.array([np.log(_figure(r, p) / 1e3 / (r.measured or 1.0)) for r, p in pairs])


def one_thread_errors(bench: Bench, values: Values, rows: Sequence[Row]) -> Floats:
    """Return log(predicted / published time in one thread) of every row."""
    pairs = zip(rows, _predicted(bench, values, rows), strict=True)
    return np.array([np.log(p.one_thread / 1e3 / (r.one_thread or 1.0)) for r, p in pairs])


def _figure(row: Row, found: Prediction) -> float:
    return found.frame_on(row.cores) if row.frame else found.one_thread


def _predicted(bench: Bench, values: Values, rows: Sequence[Row]) -> list[Prediction]:
    marches = {r.march for r in rows}
    found = {m: bench.predict(m, values.get(m, {}), [r.model for r in rows if r.march == m]) for m in marches}
    return [found[r.march][r.model] for r in rows]


def fit(
    bench: Bench, knobs: Sequence[Knob], rows: Sequence[Row], rounds: int, wrong: Wrong = frame_errors
) -> Fit:
    """Fit the knobs to the rows, from their first guesses."""
    marches = sorted({r.march for r in rows})
    _, high = _bounds(knobs)

    def errors(x: Floats) -> Floats:
        return wrong(bench, _values(knobs, x, marches), rows)

    def slopes(x: Floats) -> Floats:
        here, columns = errors(x), []
        for i in range(len(x)):
            step = _STEP if x[i] + _STEP <= high[i] else -_STEP
            moved = x.copy()
            moved[i] += step
            columns.append((errors(moved) - here) / step)
        return np.stack(columns, axis=1)

    found = _solve(knobs, rows, errors, slopes, rounds)
    return Fit(tuple(knobs), found, errors(found), slopes(found))


def fit_along(done: Fit, rows: Sequence[Row], kept: Sequence[int]) -> Fit:
    """Fit to some of the rows of a fit, by its slopes: nothing is timed. The errors are those it expects."""

    def errors(x: Floats) -> Floats:
        return (done.errors + done.slopes @ (x - done.logs))[list(kept)]

    found = _solve(
        done.knobs, [rows[i] for i in kept], errors, lambda _: done.slopes[list(kept)], 50, done.logs
    )
    return Fit(done.knobs, found, done.errors + done.slopes @ (found - done.logs), done.slopes)


def _solve(
    knobs: Sequence[Knob],
    rows: Sequence[Row],
    errors: Callable[[Floats], Floats],
    slopes: Callable[[Floats], Floats],
    rounds: int,
    first: Floats | None = None,
) -> Floats:
    """Return the logarithms of the knobs where the weighted errors, and the pull to the starts, are least."""
    start = np.log([k.start for k in knobs])
    low, high = _bounds(knobs)
    weight = np.array([r.weight for r in rows])

    def residuals(x: Floats) -> Floats:
        return np.concatenate([weight * errors(x), _PRIOR * (x - start)])

    def jacobian(x: Floats) -> Floats:
        return np.concatenate([weight[:, None] * slopes(x), _PRIOR * np.eye(len(knobs))])

    inside = np.clip(start if first is None else first, low + 1e-6, high - 1e-6)
    options: dict[str, Any] = {"loss": "soft_l1", "f_scale": _OUTLIER, "max_nfev": rounds, "x_scale": 1.0}
    found: Floats = least_squares(residuals, inside, jacobian, (low, high), **options).x
    return found


def _bounds(knobs: Sequence[Knob]) -> tuple[Floats, Floats]:
    low, high = (np.log([max(getattr(k, side), 0.5) for k in knobs]) for side in ("low", "high"))
    return low, high
