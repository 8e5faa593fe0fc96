"""Softmax and its logarithm, recognised by their formula.

    e^x / sum e^x          x − log(sum e^x)

A maximum that is taken from x first cancels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from openbpu.quantization.onnx.net import Shape
from openbpu.quantization.onnx.patterns.algebra import ONE, Formula, Monomial, X, is_number, power_of, same


@dataclass(frozen=True, slots=True)
class Softmax:
    """Softmax along `axis`, or its logarithm."""

    axis: int
    log: bool


def as_softmax(formula: Formula, shape: Shape) -> Softmax | None:
    """Return the softmax of a tensor of `shape` that a formula is; None if it is none."""
    for axis, size in enumerate(shape):
        if not isinstance(size, int):
            continue
        total = power_of("mean", power_of("exp", X), (axis,))  # times size
        (top,) = total
        share: Monomial = power_of("exp", X) | {(top[0], -top[1])}
        if _is(formula, {share: 1 / size}):
            return Softmax(axis, log=False)
        logged = {X: 1.0, power_of("log", total): -1.0, **({ONE: -math.log(size)} if size > 1 else {})}
        if _is(formula, logged):
            return Softmax(axis, log=True)
    return None


def _is(formula: Formula, wanted: dict[Monomial, float]) -> bool:
    return formula.keys() == wanted.keys() and all(
        is_number(c) and same(float(c), wanted[m]) for m, c in formula.items()
    )
