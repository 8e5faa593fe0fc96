"""Formulas in one normal form, so that every spelling of a function is the same formula.

A formula is a sum of terms, a term a coefficient (a number, or an array that broadcasts over the tensor)
times powers of atoms. An atom is the tensor x, a mean or maximum of it along axes, or the root, exponential
or logarithm of something.

    (x − mean x) / √(mean (x − mean x)² + ε) · g        =   g · x · V^-½  −  g · mean(x) · V^-½
    x · (r · g) − mean x · (r · g),  r = 1 / √(…)       =   the same,      V = mean(x²) − mean(x)² + ε

Every function here returns None where the result has no such form, or where it is not that of all real x.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Coefficient = npt.NDArray[np.float64]
Axes = tuple[int, ...]

MOST_TERMS = 16
_CLOSE = 1e-6
"""Constants of float32 that are meant to be the same number differ by less, relative to it."""

HALF = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Atom:
    """What a power is taken of.

    `kind`: x · mean, max (of `inner`, along `axes`) · size (of `axes`, where it is free) · abs, exp, log (of
    `inner`) · sum (of `terms`, of which `inner` is not used).
    """

    kind: str
    axes: Axes = ()
    inner: Monomial = frozenset()
    key: frozenset[tuple[Monomial, str]] = frozenset()
    terms: Mapping[Monomial, Coefficient] = field(default_factory=dict, compare=False)


Monomial = frozenset[tuple[Atom, Fraction]]
Formula = Mapping[Monomial, Coefficient]

ONE: Monomial = frozenset()
X: Monomial = frozenset({(Atom("x"), Fraction(1))})


def number(value: npt.ArrayLike) -> Formula:
    """Return a constant; an array of one element is a number."""
    array = np.asarray(value, np.float64)
    return {ONE: array.reshape(()) if array.size == 1 else array}


def power_of(kind: str, inner: Monomial, axes: Axes = (), power: Fraction = Fraction(1)) -> Monomial:
    """Return a single atom to a power."""
    return frozenset({(Atom(kind, axes, inner), power)})


def is_number(coefficient: Coefficient) -> bool:
    """Whether a coefficient is the same for every element."""
    return coefficient.ndim == 0


def same(a: float, b: float) -> bool:
    """Whether two constants of float32 are meant to be the same number."""
    return math.isclose(a, b, rel_tol=2 * _CLOSE)


def add(a: Formula, b: Formula, sign: float = 1.0) -> Formula | None:
    """Return a + sign · b, without the terms that cancel."""
    found = dict(a)
    for monomial, coefficient in b.items():
        before = found.pop(monomial, None)
        total = sign * coefficient if before is None else before + sign * coefficient
        size = (
            np.abs(coefficient).max()
            if before is None
            else max(np.abs(before).max(), np.abs(coefficient).max())
        )
        if np.abs(total).max() > _CLOSE * size:
            found[monomial] = np.asarray(total)
    return found if len(found) <= MOST_TERMS else None


def multiply(a: Formula, b: Formula) -> Formula | None:
    """Return a · b, multiplied out."""
    found: Formula | None = {}
    for left, p in a.items():
        for right, q in b.items():
            term = _opened(_merged((*left, *right)), np.asarray(p * q))
            found = None if found is None or term is None else add(found, term)
    return found


def _opened(monomial: Monomial, coefficient: Coefficient) -> Formula | None:
    """Return a term as a formula: a sum to the power of 1 in it is multiplied out."""
    whole = next((f for f in monomial if f[0].kind == "sum" and f[1] == 1), None)
    if whole is None:
        return {monomial: coefficient}
    return multiply({monomial - {whole}: coefficient}, whole[0].terms)


def _merged(factors: Iterable[tuple[Atom, Fraction]]) -> Monomial:
    """Return the product of powers; |a|² is a²."""
    powers: dict[Atom, Fraction] = {}
    for atom, power in factors:
        powers[atom] = powers.get(atom, Fraction(0)) + power
    plain: dict[Atom, Fraction] = {}
    for atom, power in powers.items():
        squares = atom.kind == "abs" and power.denominator == 1 and power % 2 == 0
        for inner, exponent in atom.inner if squares else {(atom, Fraction(1))}:
            plain[inner] = plain.get(inner, Fraction(0)) + power * exponent
    return frozenset((atom, power) for atom, power in plain.items() if power)


def power(a: Formula, exponent: float) -> Formula | None:
    """Return a to a constant power; of a sum only squares are multiplied out."""
    p = Fraction(exponent).limit_denominator(8)
    if not same(float(p), exponent) or not a or not p:
        return None
    if len(a) > 1:
        return multiply(a, a) if p == 2 else _power_of_sum(a, p)
    ((monomial, coefficient),) = a.items()
    raised = _raised(monomial, p)
    if raised is None or not _has_power(coefficient, p):
        return None
    return _opened(raised, np.asarray(coefficient ** float(p)))


def _has_power(coefficient: Coefficient, p: Fraction) -> bool:
    return bool((coefficient > 0).all()) or (p.denominator == 1 and (p > 0 or bool(coefficient.all())))


def _raised(monomial: Monomial, p: Fraction) -> Monomial | None:
    """Return a product to the power p; √(a²) is |a|."""
    factors: list[tuple[Atom, Fraction]] = []
    for atom, power in monomial:
        if p.denominator == 1 or power.denominator % 2 == 0 or is_positive(atom):
            factors.append((atom, power * p))
        elif power.denominator == 1 and power % 2 == 0:
            factors.append((Atom("abs", inner=frozenset({(atom, Fraction(1))})), power * p))
        else:
            return None
    return _merged(factors)


def is_positive(atom: Atom) -> bool:
    """Whether an atom is never negative."""
    if atom.kind == "mean":
        return all(is_positive(inner) or power % 2 == 0 for inner, power in atom.inner)
    if atom.kind == "sum":
        added = atom.terms.get(ONE, 0.0) >= 0
        return bool(added) and _is_a_square({m: c for m, c in atom.terms.items() if m})
    return atom.kind in {"exp", "abs", "size"}


def _power_of_sum(a: Formula, p: Fraction) -> Formula | None:
    """Return (Σ …)^p as an atom: the sum divided by its largest coefficient, and that to the power p."""
    numbers = [c for m, c in a.items() if m and is_number(c)]
    unit = max((float(c) for c in numbers), default=0.0)
    if unit <= 0 or not all(is_number(c) for c in a.values()):
        return None
    terms = {monomial: coefficient / unit for monomial, coefficient in a.items()}
    key = frozenset((monomial, f"{float(c):.5g}") for monomial, c in terms.items())
    return {frozenset({(Atom("sum", key=key, terms=terms), p)}): np.asarray(unit ** float(p))}


def is_constant_along(atom: Atom, axes: Axes) -> bool:
    """Whether an atom has the same value everywhere along `axes`."""
    if atom.kind == "sum":
        return all(is_constant_along(inner, axes) for monomial in atom.terms for inner, _ in monomial)
    if atom.kind == "size" or (atom.kind in {"mean", "max"} and set(axes) <= set(atom.axes)):
        return True
    return atom.kind != "x" and all(is_constant_along(inner, axes) for inner, _ in atom.inner)


def mean(a: Formula, axes: Axes, rank: int) -> Formula | None:
    """Return the mean along `axes` of a tensor of `rank` axes: linear, constants move out of it."""
    total: Formula | None = {}
    for monomial, coefficient in a.items():
        shape = (1,) * (rank - coefficient.ndim) + coefficient.shape
        if total is None or (not is_number(coefficient) and any(shape[axis] != 1 for axis in axes)):
            return None
        outside = frozenset(f for f in monomial if is_constant_along(f[0], axes))
        total = add(total, {_merged((*outside, *_mean_of(monomial - outside, axes))): coefficient})
    return total


def _mean_of(inside: Monomial, axes: Axes) -> Monomial:
    """Return the mean of a product of what varies; a mean of a mean is one along all of their axes."""
    if not inside:
        return ONE
    ((atom, power), *more) = inside
    if not more and atom.kind == "mean" and power == 1:
        return power_of("mean", atom.inner, tuple(sorted({*atom.axes, *axes})))
    return power_of("mean", inside, axes)


def maximum_along(a: Formula, axes: Axes) -> Formula | None:
    """Return the maximum of x (times a positive number) along `axes`."""
    if set(a) != {X} or not is_number(a[X]) or a[X] <= 0:
        return None
    return {power_of("max", X, axes): a[X]}


def exponential(a: Formula) -> Formula | None:
    """Return e^a: a product of the exponentials of its terms; e^(log b) is b."""
    found: Formula | None = number(1.0)
    for monomial, coefficient in a.items():
        if found is None or not is_number(coefficient):
            return None
        factor = _exponential(monomial, float(coefficient))
        found = None if factor is None else multiply(found, factor)
    return found


def _exponential(monomial: Monomial, coefficient: float) -> Formula | None:
    if not monomial:
        return number(math.exp(coefficient)) if abs(coefficient) < 80 else None
    p = Fraction(coefficient).limit_denominator(8)
    if not same(float(p), coefficient):
        return None
    ((atom, power), *more) = monomial
    if not more and power == 1 and atom.kind == "log":
        raised = _raised(atom.inner, p)
        return None if raised is None else {raised: np.asarray(1.0)}
    return {power_of("exp", monomial, power=p): np.asarray(1.0)}


def logarithm(a: Formula) -> Formula | None:
    """Return log a: the sum of the logarithms of the factors; log e^b is b."""
    product = _power_of_sum(a, Fraction(1)) if len(a) > 1 else a
    if not product:
        return None
    ((monomial, coefficient),) = product.items()
    if not (coefficient > 0).all() or not all(is_positive(atom) for atom, _ in monomial):
        return None
    found: Formula | None = {ONE: np.log(coefficient)} if np.any(coefficient != 1) else {}
    for atom, p in monomial:
        part = atom.inner if atom.kind == "exp" else power_of("log", frozenset({(atom, Fraction(1))}))
        found = found if found is None else add(found, {part: np.asarray(float(p))})
    return found


def absolute(a: Formula) -> Formula | None:
    """Return |a|, as the root of its square."""
    square = power(a, 2)
    return None if square is None else power(square, 0.5)


def at_least(a: Formula, least: float) -> Formula | None:
    """Return max(a, least), for the guards that are written where a is never negative.

    max(√S, ε) and max(S, ε²) become √(S + ε²) and S + ε²: the same but where S is of the size of ε², for ε up
    to `MOST_GUARD` and so below anything that an activation of float32 means.
    """
    if least <= 0 and _is_a_square(a):
        return a
    if len(a) != 1 or least <= 0:
        return None
    ((monomial, coefficient),) = a.items()
    ((atom, p), *more) = monomial or {(Atom("x"), Fraction(0))}
    if more or not is_positive(atom) or not is_number(coefficient) or p not in {HALF, 1}:
        return None
    unit = float(coefficient) ** float(1 / p)
    epsilon = least ** float(1 / p)
    if epsilon > MOST_GUARD**2:
        return None
    guarded = add({frozenset({(atom, Fraction(1))}): np.asarray(unit)}, number(epsilon))
    return None if guarded is None else power(guarded, float(p)) if p != 1 else guarded


MOST_GUARD = 1.1e-5


def _is_a_square(a: Formula) -> bool:
    """Whether a is a product of what is never negative, or a variance: mean(x²) − mean(x)²."""
    positive = [m for m, c in a.items() if (c > 0).all() and all(is_positive(atom) for atom, _ in m)]
    rest = [m for m in a if m not in positive]
    if not rest:
        return True
    if len(a) != 2 or len(rest) != 1:
        return False
    ((atom, p), *more) = rest[0] or {(Atom("x"), Fraction(0))}
    square = frozenset((inner, 2 * q) for inner, q in atom.inner)
    alike = positive and same(float(np.max(a[positive[0]])), -float(np.min(a[rest[0]])))
    return bool(alike) and not more and p == 2 and positive[0] == power_of("mean", square, atom.axes)
