"""Noise in outputs, as a share of what they hold: what the order of the search is made by.

A metric such as the share of right answers does not move when one tensor of a hundred is rounded; noise does,
and the noise of several small errors is about their sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.evaluation.analysis.metric import Metric, Outputs

_MOST_SLICES = 256
"""Coordinates and scores of a detector, not the alphabet of a reader."""


def output_noise(expected: Sequence[Outputs], found: Sequence[Outputs]) -> float:
    """Return the mean over the float outputs of the noise in each, 0 … 1; 1 for one of another shape."""
    names = [name for name, x in expected[0].items() if x.dtype.kind == "f"] or list(expected[0])
    shares = [_share([x[name] for x in expected], [y[name] for y in found]) for name in names]
    return float(np.mean(shares)) if shares else 0.0


NOISE = Metric("noise", larger=False, of=output_noise)


def _share(expected: Sequence[Array], found: Sequence[Array]) -> float:
    """Return the energy of the error over that of the values, of every slice alike.

    Slices are those of the axis along which values differ most in size: boxes in 0 … 320 beside scores in
    0 … 1 would drown these.
    """
    if any(a.shape != b.shape for a, b in zip(expected, found, strict=True)):
        return 1.0
    first = expected[0]
    places = {3: (1, 2)}.get(first.ndim, (1,) if first.ndim > 3 else ())  # rows and columns are no slices
    axes = [a for a in places if 1 < first.shape[a] <= _MOST_SLICES]
    alike = len({x.shape for x in expected}) == 1
    ways = [None, *axes] if alike else [None]
    energies = [_energy(expected, axis) for axis in ways]
    best = max(range(len(ways)), key=lambda k: _unevenness(energies[k]))
    errors = [np.subtract(a, b, dtype=np.float64) for a, b in zip(expected, found, strict=True)]
    error, energy = _energy(errors, ways[best]), energies[best]
    known = energy > 0
    if not known.any():
        return float(error.any())
    return float(np.mean(np.minimum(np.nan_to_num(error[known] / energy[known], nan=1.0), 1.0)))


def _energy(values: Sequence[Array], axis: int | None) -> Array:
    """Return the sum of squares by slice; of everything without an axis."""
    total: Array = np.zeros(1)
    for x in values:
        squares = np.square(np.nan_to_num(x.astype(np.float64), posinf=0.0, neginf=0.0))
        others = tuple(a for a in range(squares.ndim) if a != axis)
        total = total + (squares.sum() if axis is None else squares.sum(axis=others))
    return total


def _unevenness(energy: Array) -> float:
    """Return how much slices differ in size: the spread of the logarithms of their energies."""
    known = energy[energy > 0]
    return float(np.std(np.log(known))) if known.size > 1 else 0.0
