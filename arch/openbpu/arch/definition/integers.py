"""Arithmetic that takes one candidate (int) or many (int64 arrays) alike."""

from __future__ import annotations

from typing import Any

import numpy as np

Count = Any
"""An int, or an int64 array; rules return what they are given. (A union of both defeats the type checker.)"""


def ceil_div(a: Count, b: Count) -> Count:
    """Return ceil(a / b) for b > 0."""
    return -(-a // b)


def largest(first: Count, *others: Count) -> Count:
    """Return the element-wise maximum."""
    for other in others:
        scalars = isinstance(first, int) and isinstance(other, int)
        first = max(first, other) if scalars else np.maximum(first, other)
    return first


def smallest(first: Count, *others: Count) -> Count:
    """Return the element-wise minimum."""
    return -largest(-first, *(-other for other in others))


def choose(condition: Any, yes: Count, no: Count) -> Count:
    """Return `yes` where the condition holds, `no` elsewhere."""
    if isinstance(condition, bool):
        return yes if condition else no
    return np.where(condition, yes, no)
