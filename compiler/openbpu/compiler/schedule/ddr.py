"""Addresses in DDR for tensors between operators: bytes are reused once nobody needs them any more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Life:
    """A block of memory that is needed from moment `first` to moment `last`, both included."""

    key: int
    nbytes: int
    first: int
    last: int


def pack(lives: Iterable[Life], alignment: int, start: int = 0) -> tuple[dict[int, int], int]:
    """Give every block an address ≥ start so that no two that live at once overlap.

    Largest first; each goes into the smallest gap it fits, among those that its neighbours in time leave.
    Returns the addresses by key and the end of the highest block.
    """
    placed: list[tuple[int, int, Life]] = []
    addresses: dict[int, int] = {}
    end = start
    for life in sorted(lives, key=lambda b: (-b.nbytes, b.first, b.key)):
        size = -(-life.nbytes // alignment) * alignment
        busy = sorted((lo, hi) for lo, hi, o in placed if o.first <= life.last and life.first <= o.last)
        at = best_gap(busy, size, start)
        placed.append((at, at + size, life))
        addresses[life.key] = at
        end = max(end, at + size)
    return addresses, end


def best_gap(busy: list[tuple[int, int]], size: int, start: int) -> int:
    """Start of the smallest gap of `size` bytes between sorted busy intervals; behind them all if there is
    none.
    """
    best, best_size, free = -1, -1, start
    for lo, hi in busy:
        if lo - free >= size and (best < 0 or lo - free < best_size):
            best, best_size = free, lo - free
        free = max(free, hi)
    return free if best < 0 else best
