"""LayerNormalization, RMSNormalization and division by the length, recognised by their formula.

centred     y = g · (x − mean x) / √(mean(x²) − mean(x)² + ε) + b
else        y = g · x / √(mean(x²) + ε)             (division by √(sum(x²)): g = 1 / √n)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from openbpu.quantization.onnx.net import Shape
from openbpu.quantization.onnx.patterns.algebra import (
    HALF,
    ONE,
    Atom,
    Axes,
    Coefficient,
    Formula,
    Monomial,
    X,
    is_number,
    power_of,
    same,
)

MOST_ADDED = 1.1e-5
"""Largest ε that is added to the root itself and is taken under it, squared."""


@dataclass(frozen=True, slots=True)
class Norm:
    """A tensor over its mean square, or its variance if `centred`, along `axes`; times `gain`, plus `bias`.

    `gain` and `bias` are numbers or arrays that broadcast over the tensor.
    """

    axes: Axes
    epsilon: float
    gain: Coefficient
    bias: Coefficient
    centred: bool

    def fits(self, shape: Shape) -> bool:
        """Whether it can be taken of a tensor of `shape`: gain and bias broadcast, along free axes too."""
        values = (self.gain, self.bias)
        sizes = [(shape[-n], value.shape[-n]) for value in values for n in range(1, value.ndim + 1)]
        return all(size in {1, whole} for whole, size in sizes)


@dataclass(frozen=True, slots=True)
class _Spread:
    """unit · (mean(x²) − mean(x)² + ε), or without mean(x)²."""

    axes: Axes
    unit: float
    epsilon: float
    centred: bool


def as_norm(formula: Formula) -> Norm | None:
    """Return the normalization that a formula is; None if it is none."""
    terms = dict(formula)
    bias = terms.pop(ONE, np.asarray(0.0))
    found = next((m for m in terms if m >= X), None)
    if found is None:
        return None
    inverse = found - X
    spread = _under_the_root(inverse)
    if spread is None:
        return None
    gain = terms.pop(found)
    if spread.centred and not _is_negative(terms.pop(power_of("mean", X, spread.axes) | inverse, None), gain):
        return None
    scale = gain / np.sqrt(spread.unit)
    return None if terms else Norm(spread.axes, spread.epsilon, scale, bias, spread.centred)


def _is_negative(a: Coefficient | None, b: Coefficient) -> bool:
    return a is not None and a.shape == b.shape and bool(np.allclose(a, -b, rtol=2e-6, atol=0))


def _under_the_root(inverse: Monomial) -> _Spread | None:
    """Return S of 1 / √S, from S^-½ or (√S + ε)^-1."""
    if len(inverse) != 1:
        return None
    ((atom, power),) = inverse
    if power == -HALF:
        return _spread(_terms(atom))
    return _with_added(atom.terms) if atom.kind == "sum" and power == -1 else None


def _terms(atom: Atom) -> Formula:
    return atom.terms if atom.kind == "sum" else {frozenset({(atom, 2 * HALF)}): np.asarray(1.0)}


def _with_added(terms: Formula) -> _Spread | None:
    """(c·√S + ε)^-1 is (c²·S + ε²)^-½ to float32's precision, where √S is not of the size of ε."""
    rest = {m: c for m, c in terms.items() if m}
    added = float(terms.get(ONE, 0.0))
    if len(rest) != 1 or not 0 <= added <= MOST_ADDED:
        return None
    ((monomial, coefficient),) = rest.items()
    ((atom, power), *more) = monomial
    inner = _spread(_terms(atom)) if not more and power == HALF and is_number(coefficient) else None
    if inner is None:
        return None
    unit = float(coefficient) ** 2 * inner.unit
    return _Spread(inner.axes, unit, inner.epsilon + added**2 / unit, inner.centred)


def _spread(terms: Formula) -> _Spread | None:
    """Return the variance or mean square that a sum is."""
    left: dict[Monomial, float] = {m: float(c) for m, c in terms.items() if is_number(c)}
    epsilon = left.pop(ONE, 0.0)
    squares = [
        (m, atom) for m in left for atom, power in m if len(m) == 1 and _is_mean_square(atom) and power == 1
    ]
    if len(squares) != 1 or len(terms) != len(left) + (ONE in terms):
        return None
    monomial, atom = squares[0]
    unit = left.pop(monomial)
    if unit <= 0 or epsilon < 0:
        return None
    centred = bool(left)
    if centred and not _is_one(left, power_of("mean", X, atom.axes, 4 * HALF), -unit):
        return None
    return _Spread(atom.axes, unit, epsilon / unit, centred)


def _is_one(terms: Mapping[Monomial, float], monomial: Monomial, coefficient: float) -> bool:
    return set(terms) == {monomial} and same(terms[monomial], coefficient)


def _is_mean_square(atom: Atom) -> bool:
    square = frozenset((inner, 2 * power) for inner, power in X)
    return atom.kind == "mean" and atom.inner == square
