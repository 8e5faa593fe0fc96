"""Strided loop nests: fewer dimensions where the data allows, a fixed number of them where an instruction
wants it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

Ints = tuple[int, ...]


def dense_strides(shape: Sequence[int], element: int) -> Ints:
    """Byte strides of a dense row-major array."""
    out, step = [], element
    for n in reversed(shape):
        out.append(step)
        step *= n
    return tuple(reversed(out))


def collapse(counts: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[Ints, tuple[Ints, ...]]:
    """Drop loops of one turn and join neighbours that step evenly for every operand: the same elements in
    the same order.

    counts (2, 1, 3, 4), strides ((12, 12, 4, 1), (24, 9, 8, 2))  →  (24,), ((1,), (2,))
    """
    kept: list[int] = []
    out: list[list[int]] = [[] for _ in strides]
    for d in range(len(counts) - 1, -1, -1):
        n = counts[d]
        if n == 1:
            continue
        if kept and all(s[d] == o[-1] * kept[-1] for s, o in zip(strides, out, strict=True)):
            kept[-1] *= n
            continue
        kept.append(n)
        for s, o in zip(strides, out, strict=True):
            o.append(s[d])
    return tuple(reversed(kept)), tuple(tuple(reversed(o)) for o in out)


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
