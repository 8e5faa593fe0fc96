"""An emitter adds one float operator to a builder and returns the names of its results."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from witness.builder import GraphBuilder

Emitter: TypeAlias = Callable[..., tuple[str, ...]]

EMITTERS: dict[str, Emitter] = {}
"""Operator to emitter: ``emitter(builder, x, **variation)``."""

MIN_OPSET = {
    "HardSwish": 14,
    "LayerNormalization": 17,
    "Mish": 18,
    "GroupNormalization": 21,
    "Gelu": 20,
    "RMSNormalization": 23,
    "Swish": 24,
}
"""Operators younger than opset 13."""

LATER: set[str] = set()
"""Operators whose emitter is in `tests/operators`: what was pinned before they came stays as it is."""


def emitter(*ops: str) -> Callable[[Emitter], Emitter]:
    """Register the function for these operators; for several, it takes ``op`` as a keyword."""

    def register(function: Emitter) -> Emitter:
        if function.__module__.startswith("operators."):
            LATER.update(ops)
        for op in ops:
            EMITTERS[op] = function if len(ops) == 1 else _bound(function, op)
        return function

    return register


def _bound(function: Emitter, op: str) -> Emitter:
    def emit(b: GraphBuilder, x: str, **variation: object) -> tuple[str, ...]:
        return function(b, x, op=op, **variation)

    return emit


def pair(value: int | tuple[int, ...] | None, rank: int) -> list[int] | None:
    """One number for all axes, or one per axis."""
    if value is None:
        return None
    return [value] * rank if isinstance(value, int) else list(value)
