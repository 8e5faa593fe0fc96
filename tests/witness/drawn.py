"""Small QDQ networks drawn by number, the same on every machine and under every version of hypothesis.

Structure and arguments come from the recipes of `random_graphs`, numbers from `random.Random`, scales have
six bits: what is compiled from them can be kept as a digest. Operators that came later (`LATER`) are not
drawn, so that the networks stay what they are.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from hypothesis.strategies import DrawFn

from witness.builder import GraphBuilder, Style
from witness.emit import EMITTERS, LATER, MIN_OPSET
from witness.random_graphs import FAMILIES, FUSED, OPSETS, Model
from witness.recipes import RECIPES, Site
from witness.variations import KEEPS_SCALE, STYLES

_NARROW = tuple(name for name, style in STYLES.items() if "16" not in style.dtype)
_CPU_OPS = ("Hardmax", "ScatterElements")
"""Without a unit on the BPU, and of exact results on any processor."""


@dataclass(frozen=True, slots=True)
class _Choice(Site):
    """Chooses by a generator of Python's own."""

    rng: random.Random

    def integer(self, low: int, high: int) -> int:
        return self.rng.randint(low, max(low, high))

    def one_of(self, *values: Any) -> Any:
        return self.rng.choice(values)

    def some_of(self, low: int, high: int, most: int, *, unique: bool) -> tuple[int, ...]:
        options = range(low, high + 1)
        count = self.rng.randint(1, min(most, len(options)))
        return tuple(self.rng.sample(options, count) if unique else self.rng.choices(options, k=count))

    def order_of(self, n: int) -> tuple[int, ...]:
        return tuple(self.rng.sample(range(n), n))


def coarse(style: str) -> Style:
    """A style of `STYLES` with scales of six bits."""
    return replace(STYLES[style], coarse=True)


def drawn_model(seed: int, nodes: int = 6) -> Model:
    """A network of about `nodes` operators, and its inputs; each eighth is of 16 bits (long tables)."""
    rng = random.Random(seed)
    styles = _NARROW if seed % 8 else ("int16", "int16-ties", "uint16")
    b = GraphBuilder(rng.choice(OPSETS), seed, coarse(rng.choice(styles)))
    rank = rng.choice((4, 4, 4, 3, 2))
    shape = (rng.choice((1, 1, 2)), rng.randint(1, 20), *(rng.randint(2, 9) for _ in range(rank - 2)))
    pool = [b.quantized_input(shape)]
    for _ in range(nodes):
        _grow(rng, b, pool)
    for name in pool:
        if b.consumers(name) == 0:
            b.output(name)
    return b.model(), b.inputs


def _grow(rng: random.Random, b: GraphBuilder, pool: list[str]) -> None:
    """Add an operator behind one of the last tensors."""
    x = rng.choice(pool[-3:])
    value = b.values[x]
    if not value.size or not value.ndim:
        return
    size = float(np.abs(value).max())
    known = {op: r for op, r in RECIPES.items() if op not in LATER and MIN_OPSET.get(op, 0) <= b.opset}
    fits = [op for op, r in known.items() if r.applies(value.shape, size)]
    families = [found for family in FAMILIES if (found := [op for op in fits if op in family])]
    op = rng.choice(rng.choice(families))
    site = _Choice(cast(DrawFn, _no_draw), b, x, tuple(pool), rng)
    for made in EMITTERS[op](b, x, **RECIPES[op].arguments(site)):
        y = _fused(rng, b, made, pool)
        same = y == made and op in KEEPS_SCALE and x in b.parameters and rng.random() < 0.7
        pool.append(b.qdq(y, like=x if same else None))


def _fused(rng: random.Random, b: GraphBuilder, y: str, pool: Sequence[str]) -> str:
    """Now and then another operator before the quantizer: one that is fused, or one of the CPU's."""
    chance = rng.random()
    if chance < 0.25:
        op = rng.choice([f for f in FUSED if MIN_OPSET.get(f, 0) <= b.opset])
        same = [n for n in pool if b.shape(n) == b.shape(y)]
        return EMITTERS[op](b, y)[0] if op != "Add" else b.node("Add", y, rng.choice(same) if same else y)
    if chance < 0.3 and b.values[y].ndim:
        op = rng.choice(_CPU_OPS)
        return b.node("Hardmax", y) if op == "Hardmax" else _with_another_first(b, y)
    return y


def _with_another_first(b: GraphBuilder, y: str) -> str:
    """One for the first element of y."""
    first = (1,) * b.values[y].ndim
    return b.node("ScatterElements", y, b.constant(np.zeros(first, np.int64)), b.constant(np.ones(first)))


def _no_draw(_: Any) -> Any:
    raise AssertionError("a recipe draws by itself: nothing it makes is the same twice")
