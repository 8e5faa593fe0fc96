"""Strided loop nests with a fixed number of dimensions, as an instruction wants them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from openbpu.arch.shapes import Ints, collapse


def nests(
    counts: Sequence[int], strides: Sequence[Sequence[int]], depth: int
) -> Iterator[tuple[Ints, Ints, tuple[Ints, ...]]]:
    """Cut a loop nest into nests of exactly `depth` loops.

    Yields (offset per operand, counts, strides per operand); missing loops become (1, stride 0) in front.
    """
    inner, steps = collapse(counts, strides)
    spare = max(len(inner) - depth, 0)
    fill = (0,) * (depth - (len(inner) - spare))
    tail = (1,) * len(fill) + inner[spare:]
    tail_steps = tuple(fill + s[spare:] for s in steps)
    for at in product(*(range(n) for n in inner[:spare])):
        yield tuple(sum(i * k for i, k in zip(at, s, strict=False)) for s in steps), tail, tail_steps
