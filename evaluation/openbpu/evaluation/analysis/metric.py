"""By what outputs are judged: cosine, mse, SQNR, or a function of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, OpenbpuError, must
from openbpu.evaluation.own import load_own
from openbpu.quantization.measures import Closeness, Sums

Outputs = Mapping[str, Array]
Function = Callable[[Sequence[Outputs], Sequence[Outputs]], float]
"""Takes the float model's outputs of every sample, and those to judge; returns a number."""

NAMES = ("cosine", "mse", "sqnr")
BEST = 200.0
"""dB that stand for no noise at all, so that there is a mean of several outputs."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A measure of outputs against the float model's. larger: whether a larger value is a better one.

    Of several outputs it is the mean over the float ones (over all, where none is float). modules: the user's
    own, which other processes do not have.
    """

    name: str
    larger: bool
    of: Function
    modules: tuple[str, ...] = ()

    def __call__(self, expected: Sequence[Outputs], found: Sequence[Outputs]) -> float:
        """Return the measure; raises InputError where a user's function gives no number."""
        try:
            value = self.of(expected, found)
        except OpenbpuError:
            raise
        except Exception as error:  # the user's own code
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise InputError(f"--metric: {self.name} failed ({said}); mend it there") from error
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            fix = "return one number for all samples"
            actual = type(value).__name__
            raise InputError(
                must("--metric", f"what {self.name} returns", "a number", actual, fix)
            ) from error

    def loss(self, value: float, reference: float) -> float:
        """Return how much worse a value is than another."""
        worse = reference - value if self.larger else value - reference
        return worse if isfinite(worse) else (float("inf") if value != reference else 0.0)


def metric(wanted: str | Metric | Function) -> Metric:
    """Return a metric by its name, or one that calls a function; raises InputError for another name.

    A function with the attribute `lower_is_better` is an error to keep small; any other a score.
    """
    if isinstance(wanted, Metric):
        return wanted
    if isinstance(wanted, str) and ":" in wanted:
        return _own(wanted)
    if callable(wanted):
        larger = not getattr(wanted, "lower_is_better", False)
        return Metric(getattr(wanted, "__name__", "the function"), larger, wanted)
    of: dict[str, Callable[[Closeness], float]] = {
        "cosine": lambda c: c.cosine,
        "mse": lambda c: c.mse,
        "sqnr": lambda c: float(np.clip(c.sqnr, -BEST, BEST)),
    }
    if wanted not in of:
        allowed = f"{', '.join(NAMES)} or MODULE:FUNCTION"
        raise InputError(must("--metric", "the metric", allowed, f"'{wanted}'"))
    return Metric(wanted, wanted != "mse", _mean(of[wanted]))


def _own(spec: str) -> Metric:
    """Return what MODULE:FUNCTION names, found from the current folder; raises InputError."""
    found = load_own("--metric", spec)
    if not callable(found.thing):
        raise InputError(must("--metric", "the function", "callable", f"'{spec}'"))
    return replace(metric(found.thing), modules=found.modules)


def _mean(of: Callable[[Closeness], float]) -> Function:
    def measure(expected: Sequence[Outputs], found: Sequence[Outputs]) -> float:
        names = list(expected[0])
        floats = [name for name in names if expected[0][name].dtype.kind == "f"]
        values = []
        for name in floats or names:
            sums = Sums()
            for a, b in zip(expected, found, strict=True):
                sums.add(a[name], b[name])
            values.append(of(sums.closeness()))
        return float(np.mean(values)) if values else 0.0

    return measure
