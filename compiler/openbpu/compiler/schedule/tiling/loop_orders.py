"""Tile lengths and loop orders worth trying."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import prod

from openbpu.arch.shapes import Ints


def tile_lengths(n: int, step: int, cap: int) -> list[int]:
    """Tile lengths worth trying for an axis of length n: even cuts into 1, 2, 3, 4, 6, 8, 12, … parts."""
    out: list[int] = []
    parts = 1
    while True:
        t = min(-(-n // parts), cap)
        t = n if t >= n else -(-t // step) * step
        if t <= n and (not out or t < out[-1]):
            out.append(t)
        if t <= step or parts >= n:
            return out
        parts = parts * 3 // 2 if parts & (parts - 1) == 0 and parts > 1 else -(-parts * 4 // 3)


def thinned(lists: Sequence[list[int]], limit: int) -> list[list[int]]:
    """Fewer of the lengths per axis, evenly spread with both ends: at most `limit` combinations."""
    out = [list(c) for c in lists]
    while prod(len(c) for c in out) > limit:
        longest = max(range(len(out)), key=lambda d: len(out[d]))
        keep = len(out[longest]) - 1
        c = lists[longest]
        if keep < 2:
            break
        out[longest] = [c[round(i * (len(c) - 1) / (keep - 1))] for i in range(keep)]
    return out


def loop_orders(lists: Sequence[Sequence[int]]) -> list[Ints]:
    """Loop orders worth trying, given the tile lengths of every axis; those never cut are outermost."""
    cut = [d for d, c in enumerate(lists) if len(c) > 1]
    rest = [d for d in range(len(lists)) if d not in cut]
    if len(cut) < 2:
        return [(*rest, *cut)]
    if len(cut) == 4:
        return [(*rest, cut[0], *p) for p in permutations(cut[1:])]
    if len(cut) > 4:
        return [(*rest, *cut), (*rest, *reversed(cut))]
    return [(*rest, *p) for p in permutations(cut)]
