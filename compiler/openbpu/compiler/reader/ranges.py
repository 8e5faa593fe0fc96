"""Range of constants, exactly: its number of elements near 2⁶³ is neither an int64 nor a double.

onnx's shape inference counts in int64, ONNX Runtime in double; both find nothing in 2⁶³−6 … 2⁶³−1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from openbpu.compiler.ir.graph import Array, Node
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.scope import Scope

_DTYPES = frozenset({"int16", "int32", "int64", "float32", "float64"})
_EXACT = 1 << 53
_FIX = "check the values it is given"


@dataclass(frozen=True, slots=True)
class Range:
    """The arguments of a Range, as Python numbers, and the element type of its result."""

    start: Any
    limit: Any
    delta: Any
    dtype: np.dtype[Any]

    @property
    def count(self) -> int:
        """Elements: max(⌈(limit − start) / delta⌉, 0), of floats in float64."""
        if self.dtype.kind == "i":
            count: int = -((self.start - self.limit) // self.delta)
        else:
            count = math.ceil((self.limit - self.start) / self.delta)
        return max(count, 0)

    def values(self) -> Array:
        """Return start + i·delta, of floats in float64 and rounded once."""
        if self.dtype.kind == "f":
            with np.errstate(over="ignore"):
                floats: Array = (self.start + np.arange(self.count) * self.delta).astype(self.dtype)
                return floats
        # Modulo 2⁶⁴: the products may leave int64, the elements do not.
        steps = np.arange(self.count, dtype=np.uint64) * np.uint64(self.delta % (1 << 64))
        return (steps + np.uint64(self.start % (1 << 64))).view(np.int64).astype(self.dtype)


def range_of(node: Node, scope: Scope) -> Range | None:
    """Return the Range that a node makes of constants, None for every other node.

    Raises ModelError when it has a step of 0, or no end.
    """
    if node.op != "Range" or node.domain or len(node.inputs) != 3:
        return None
    arrays = [scope.const(name) for name in node.inputs]
    given = [a.reshape(()) for a in arrays if a is not None and a.size == 1]
    if len(given) < 3 or len({a.dtype for a in given}) > 1 or given[0].dtype.name not in _DTYPES:
        return None
    start, limit, delta = (a.item() for a in given)
    where = f"node '{node.name}' ({node.op})"
    if delta == 0:
        raise problem(where, "delta", "other than 0", "0", _FIX)
    if not all(math.isfinite(v) for v in (start, limit, delta, (limit - start) / delta)):
        raise problem(where, "start, limit and delta", "finite", f"{start}, {limit} and {delta}", _FIX)
    return Range(start, limit, delta, given[0].dtype)


def check_range(node: Node, scope: Scope) -> None:
    """Raise ModelError for a Range too large to be made here that ONNX Runtime, in double, miscounts."""
    exact = range_of(node, scope)
    if exact is None or exact.dtype.kind == "f" or max(abs(exact.start), abs(exact.limit)) <= _EXACT:
        return
    where, found = f"node '{node.name}' ({node.op})", f"{exact.start:,} and {exact.limit:,}"
    raise problem(where, "start and limit of so many elements", "within ±2⁵³", found, _FIX)
