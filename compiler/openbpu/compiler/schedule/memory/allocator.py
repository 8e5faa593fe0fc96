"""Addresses: blocks with lifetimes packed into one memory, and tile buffers that go round the free rest of
it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Gap = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Life:
    """A block of memory that is needed from moment `first` to moment `last`, both included."""

    key: int
    nbytes: int
    first: int
    last: int


def aligned(nbytes: int, alignment: int) -> int:
    """The next multiple of the alignment."""
    return -(-nbytes // alignment) * alignment


def pack(lives: Iterable[Life], alignment: int, start: int = 0) -> tuple[dict[int, int], int]:
    """Give every block an address ≥ start so that no two that live at once overlap.

    Largest first; each goes into the smallest gap it fits, among those that its neighbours in time leave.
    Returns the addresses by key and the end of the highest block.
    """
    starting: defaultdict[int, list[Gap]] = defaultdict(list)
    living: defaultdict[int, list[Gap]] = defaultdict(list)
    addresses: dict[int, int] = {}
    end = start
    for life in sorted(lives, key=lambda b: (-b.nbytes, b.first, b.key)):
        size = aligned(life.nbytes, alignment)
        later = [gap for moment in range(life.first + 1, life.last + 1) for gap in starting.get(moment, ())]
        at = best_gap(sorted([*living.get(life.first, ()), *later]), size, start)
        starting[life.first].append((at, at + size))
        for moment in range(life.first, life.last + 1):
            living[moment].append((at, at + size))
        addresses[life.key] = at
        end = max(end, at + size)
    return addresses, end


def best_gap(busy: list[Gap], size: int, start: int) -> int:
    """Start of the smallest gap of `size` bytes between sorted busy intervals; behind them if there is
    none.
    """
    best, best_size, free = -1, -1, start
    for lo, hi in busy:
        if lo - free >= size and (best < 0 or lo - free < best_size):
            best, best_size = free, lo - free
        free = max(free, hi)
    return free if best < 0 else best


def gaps_between(busy: Iterable[Gap], end: int) -> tuple[Gap, ...]:
    """The free intervals of 0..end outside the busy ones."""
    out, free = [], 0
    for lo, hi in sorted(busy):
        if lo > free:
            out.append((free, lo))
        free = max(free, hi)
    if free < end:
        out.append((free, end))
    return tuple(out)


@dataclass(slots=True)
class Ring:
    """Hands out buffers round and round the free memory: the bytes handed out longest ago come next.

    So LOAD can run ahead of the engines as far as the memory reaches, across tiles and layers; tokens make
    it wait where a buffer is still in use.
    """

    alignment: int
    at: int = 0

    def take(self, nbytes: int, gaps: Sequence[Gap], held: Sequence[Gap]) -> int | None:
        """Address of `nbytes` free bytes that overlap nothing in `held`; None when no gap has them."""
        size = aligned(nbytes, self.alignment)
        ahead = [(max(lo, self.at), hi) for lo, hi in gaps if hi > self.at]
        for lo, hi in (*ahead, *gaps):
            at = _free_in(lo, hi, size, held)
            if at is not None:
                self.at = at + size
                return at
        return None


def _free_in(lo: int, hi: int, size: int, held: Sequence[Gap]) -> int | None:
    """The first address in lo..hi where `size` bytes overlap nothing held."""
    at = lo
    while at + size <= hi:
        clash = max((end for start, end in held if start < at + size and at < end), default=at)
        if clash == at:
            return at
        at = clash
    return None
