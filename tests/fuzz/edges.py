"""Values at which code breaks."""

from __future__ import annotations

import random
from typing import Any

INTEGERS = (
    *(0, 1, -1, 2, 3, 7, 8, 16, 31, 32, 33, 62, 63, 64, 65, 127, 128, -128, 255, 256, 32767, -32768, 65535),
    *(2**16, 2**20, 2**24, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, -(2**63)),
    *(2**63, 2**64, 10**30),
)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 3.4e38, 1e39, 1e308, float("nan"), float("inf"), float("-inf"))
TEXTS = (
    *(
        "",
        "x",
        "int8",
        "int16",
        "int32",
        "float32",
        "other",
        "const",
        "ddr",
        "chip",
        "l2m",
        "view",
        "max",
        "sum",
    ),
    *("BPU", "CPU", "\x1b[31m", "\x00", "\ud800", "/", "..", "·", "a" * 300, "nash-e", "bayes-e"),
)


def number(rng: random.Random, value: int, others: tuple[int, ...]) -> int:
    """Another integer: near this one, one that stands elsewhere, or an edge."""
    how = rng.randrange(10)
    if how < 4:
        return rng.choice((value + 1, value - 1, value * 2, value // 2, -value, 0, 1))
    if how < 7 and others:
        return rng.choice(others)
    return rng.choice(INTEGERS) if how < 9 else rng.randrange(-300, 300)


def anything(rng: random.Random, value: Any, others: tuple[int, ...]) -> Any:
    """Another value, mostly of the same type."""
    if rng.randrange(25) == 0:
        return rng.choice((None, True, 0, 1.5, "x", [], {}, [1], [[0]], {"x": 1}))
    if type(value) is bool:
        return not value
    if type(value) is int:
        return number(rng, value, others)
    if type(value) is float:
        return rng.choice(FLOATS) if rng.randrange(2) else value * rng.choice((2, 0.5, -1, 1 + 2**-24))
    if type(value) is str:
        return rng.choice(TEXTS)
    return shuffled(rng, value) if type(value) is list else value


def shuffled(rng: random.Random, items: list[Any]) -> list[Any]:
    """A list with an item doubled, gone, moved, or all gone."""
    items = list(items)
    if not items:
        return [rng.choice((0, 1, "x"))]
    at, to = rng.randrange(len(items)), rng.randrange(len(items))
    how = rng.randrange(5)
    if how == 0:
        items.insert(to, items[at])
    elif how == 1:
        del items[at]
    elif how == 2:
        items[at], items[to] = items[to], items[at]
    elif how == 3:
        items[at] = items[to]
    else:
        del items[at:]
    return items
