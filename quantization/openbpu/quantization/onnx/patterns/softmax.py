"""Softmax and its logarithm, recognised by their formula.

    e^x / sum e^x          x − log(sum e^x)

A maximum that is taken from x first cancels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from openbpu.quantization.onnx.net import Shape
from openbpu.quantization.onnx.patterns.algebra import ONE, Formula, Monomial, X, is_number, power_of, same

MOST_ADDED = 1.1e-6
"""Largest ε beside a sum of 1 at least that is nothing to float32's precision."""


@dataclass(frozen=True, slots=True)
class Softmax:
    """Softmax along `axis`, or its logarithm; that, `in_steps`."""

    axis: int
    log: bool
    in_steps: bool = False


def as_softmax(formula: Formula, shape: Shape) -> Softmax | None:
    """Return the softmax of a tensor of `shape` that a formula is; None if it is none."""
    for axis, size in enumerate(shape):
        mean = power_of("mean", power_of("exp", X), (axis,))
        logs = {X: 1.0, power_of("log", mean): -1.0}
        if not isinstance(size, int):
            free = power_of("size", ONE, (axis,))
            share, known = power_of("exp", X) | _inverse(mean | free), 1
            logs[power_of("log", free)] = -1.0
        else:
            share, known = power_of("exp", X) | _inverse(mean), size
            logs |= {ONE: -math.log(size)} if size > 1 else {}
        if _is(formula, {share: 1 / known}) or _is_guarded(formula, axis, known):
            return Softmax(axis, log=False)
        if _is(formula, logs):
            return Softmax(axis, log=True)
    return None


def _is_guarded(formula: Formula, axis: int, size: int) -> bool:
    """Whether it is e^(x − max) / (sum e^(x − max) + ε): beside a sum of 1 at least, a small ε is nothing."""
    if len(formula) != 1:
        return False
    ((monomial, scale),) = formula.items()
    below = _inverse(power_of("exp", power_of("max", X, (axis,))))  # e^-max
    above = power_of("exp", X) | below
    ((total, power), *more) = (monomial - above) or X
    if more or not above <= monomial or total.kind != "sum" or power != -1:
        return False
    sums = dict(total.terms)
    added = float(sums.pop(ONE, 0.0)) * size
    mean = power_of("mean", power_of("exp", X), (axis,)) | below
    alike = is_number(scale) and same(float(scale), 1 / size)
    return alike and _is(sums, {mean: 1.0}) and 0 <= added <= MOST_ADDED


def _inverse(monomial: Monomial) -> Monomial:
    return frozenset((atom, -power) for atom, power in monomial)


def _is(formula: Formula, wanted: dict[Monomial, float]) -> bool:
    return formula.keys() == wanted.keys() and all(
        is_number(c) and same(float(c), wanted[m]) for m, c in formula.items()
    )
