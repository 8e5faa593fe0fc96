"""Pooling of any rank: one pass per kernel element."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from openbpu.evaluation.reference.kernel import Array, Call, kernel
from openbpu.evaluation.reference.ops.windows import Window, windows


def _taps(x: Array, axes: tuple[Window, ...], fill: float, beyond: float) -> Iterator[Array]:
    """For each kernel element, the input under it at every position.

    Padding holds ``fill``; what ceil mode needs past the padding holds ``beyond``.
    """
    still = [(0, 0), (0, 0)]
    padded = np.pad(x, [*still, *((a.before, a.after) for a in axes)], constant_values=fill)
    padded = np.pad(padded, [*still, *((0, a.overhang) for a in axes)], constant_values=beyond)
    for at in itertools.product(*(range(a.kernel) for a in axes)):
        where = tuple(a.taps(o) for a, o in zip(axes, at, strict=True))
        yield padded[(slice(None), slice(None), *where)]


def _pool_windows(call: Call, x: Array) -> tuple[Window, ...]:
    return windows(call, x.shape[2:], tuple(call.attrs["kernel_shape"]))


@kernel("MaxPool")
def max_pool(call: Call) -> Array:
    """Padding never wins. Indices (the second output) are not given."""
    x = call[0]
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    taps = _taps(x, _pool_windows(call, x), lowest, lowest)
    result = next(taps)
    for tap in taps:
        result = np.maximum(result, tap)
    return result


def average_pool(call: Call, x: Array) -> Array:
    """Mean over the window; padding counts only with ``count_include_pad``, overhang never."""
    axes = _pool_windows(call, x)
    ones = np.ones((1, 1, *x.shape[2:]))
    counts = _taps(ones, axes, fill=float(call.attr("count_include_pad", 0)), beyond=0.0)
    return np.asarray(sum(_taps(x, axes, 0.0, 0.0)) / sum(counts))


@kernel("AveragePool")
def average_pool_float(call: Call) -> Array:
    """AveragePool as the specification has it."""
    return average_pool(call, call[0])


@kernel("GlobalAveragePool")
def global_average_pool(call: Call) -> Array:
    """Mean over the spatial axes."""
    return np.asarray(call[0].mean(axis=tuple(range(2, call[0].ndim)), keepdims=True))


@kernel("GlobalMaxPool")
def global_max_pool(call: Call) -> Array:
    """Maximum over the spatial axes."""
    return np.asarray(call[0].max(axis=tuple(range(2, call[0].ndim)), keepdims=True))
