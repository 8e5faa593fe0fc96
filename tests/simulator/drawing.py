"""What random operators are drawn with: their register, and sizes, types and numbers that many share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from openbpu.arch import numerics
from openbpu.arch import program as p
from openbpu.arch.definition.rooms import Room
from openbpu.arch.dtypes import DType

from .build import Build, random_tensor

Rng = np.random.Generator
CHANNELS = (1, 2, 3, 4, 5, 8, 15, 16, 17, 24, 33, 64, 70, 100, 130)
INT8, INT16 = DType.INT8, DType.INT16
Draw = Callable[[Rng, Build], p.Operator]
DRAWN: Room[type[p.Operator], Draw] = Room(
    "the random operators",
    p.OPERATORS,
    "simulator.random_operators",
    decorator="a function under @drawn({})",
    where="tests/operators/{}.py",
)
CASES: dict[str, Draw] = {}
"""The same by the name of the function."""


def drawn(kind: type[p.Operator]) -> Callable[[Draw], Draw]:
    """Register a function that draws operators of a kind."""

    def register(draw: Draw) -> Draw:
        CASES[draw.__name__] = draw
        return DRAWN.of(kind)(draw)

    return register


def pick(rng: Rng, options: tuple[int, ...]) -> int:
    return int(options[int(rng.integers(len(options)))])


def chance(rng: Rng, odds: float = 0.3) -> bool:
    return bool(rng.random() < odds)


def bounds(rng: Rng, dtype: DType) -> dict[str, int]:
    """zero, lo and hi of an output; a narrow clamp now and then, as a fused activation makes it."""
    zero = int(rng.integers(dtype.qmin // 2, dtype.qmax // 2)) if chance(rng) else 0
    lo = max(zero, dtype.qmin) if chance(rng) else dtype.qmin
    hi = min(lo + int(rng.integers(1, 100)), dtype.qmax) if chance(rng, 0.2) else dtype.qmax
    return {"zero": zero, "lo": lo, "hi": hi}


def zero_point(rng: Rng, dtype: DType) -> int:
    return int(rng.integers(dtype.qmin, dtype.qmax, endpoint=True)) if chance(rng, 0.5) else 0


def factor(rng: Rng, spread: float, out: DType) -> tuple[int, int]:
    """(mult, shift) that maps values of about `spread` to the range of `out`; powers of two make ties."""
    if chance(rng, 0.25):
        shift = max(0, int(np.log2(max(spread / out.qmax, 1))) + int(rng.integers(-1, 2)))
        return 1, shift
    size = out.qmax / max(spread, 1.0) * float(rng.uniform(0.3, 3))
    mult, shifts = numerics.fixed_point(size)
    return int(mult[0]), int(shifts[0])


def table(rng: Rng, b: Build, dtype: DType) -> int:
    return b.const(random_tensor(rng, (256,), dtype))


def narrow_dtype(rng: Rng) -> DType:
    return INT16 if chance(rng) else INT8


def pick_dtype(rng: Rng) -> DType:
    return (INT8, INT8, INT16, DType.INT32)[int(rng.integers(4))]


def shape_of(rng: Rng) -> tuple[int, ...]:
    return tuple(pick(rng, (1, 2, 3, 7, 40)) for _ in range(pick(rng, (1, 2, 3))))


def any_dtype(rng: Rng) -> DType:
    return (INT8, INT16, DType.INT32, DType.FLOAT32)[int(rng.integers(4))]
