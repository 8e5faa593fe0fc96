"""Constants whose elements are all equal: to an operator that broadcasts they are one number.

torch.full_like(m, 0.5) is exported as a tensor of m's shape; whoever looks for numbers must find one there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch.numerics.functions import BINARY, PREDICATES

BROADCAST = frozenset({*BINARY, *PREDICATES} - {"Not", "Cast", "IsInf", "IsNaN"})
"""ONNX operators whose operands broadcast against each other, element by element."""

_FIRST = 64
"""So many elements are compared first: most constants differ there."""


def lone_value(array: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Return the one value that all elements have, bit by bit, of shape (); None where there is no such."""
    if not array.size or array.dtype.hasobject or array.dtype.itemsize not in {1, 2, 4, 8}:
        return None
    held = array[
        tuple(slice(None) if stride else slice(1) for stride in array.strides)
    ]  # repeats by stride 0
    flat = held.reshape(-1)
    for part in (flat[:_FIRST], flat):
        bits = np.ascontiguousarray(part).view(f"u{array.dtype.itemsize}")
        if (bits != bits[0]).any():
            return None
    value: npt.NDArray[Any] = np.asarray(flat[0])
    return value


def is_spare(shape: Sequence[object], others: Sequence[Sequence[object]]) -> bool:
    """Whether an operand of this shape adds nothing to what the others broadcast to.

    Then it may be a scalar. Dimensions are ints, or symbols of which nothing is known.
    """
    if len(shape) > max(map(len, others), default=0):
        return False
    return all(
        size == 1 or any(size == other[-back] for other in others if len(other) >= back and other[-back] != 1)
        for back, size in enumerate(reversed(shape), 1)
    )
