"""Allocators: blocks with live ranges packed into one memory, and a ring that hands out tile buffers from
what is free.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from openbpu.compiler.schedule.problem.byte_ranges import Interval


@dataclass(frozen=True, slots=True)
class LiveBlock:
    """A request for `nbytes` of memory from moment `first` to moment `last`, both included."""

    key: int
    nbytes: int
    first: int
    last: int


def aligned(nbytes: int, alignment: int) -> int:
    """The next multiple of the alignment."""
    return -(-nbytes // alignment) * alignment


def pack(blocks: Iterable[LiveBlock], alignment: int, start: int = 0) -> tuple[dict[int, int], int]:
    """Give every block an address ≥ start so that no two that live at once overlap.

    Largest first; each goes into the smallest gap it fits, among those that its neighbours in time leave.
    Returns the addresses by key and the end of the highest block.
    """
    starting: defaultdict[int, list[Interval]] = defaultdict(list)
    living: defaultdict[int, list[Interval]] = defaultdict(list)
    addresses: dict[int, int] = {}
    end = start
    for block in sorted(blocks, key=lambda b: (-b.nbytes, b.first, b.key)):
        size = aligned(block.nbytes, alignment)
        later = [b for moment in range(block.first + 1, block.last + 1) for b in starting.get(moment, ())]
        at = best_fit(sorted([*living.get(block.first, ()), *later]), size, start)
        starting[block.first].append((at, at + size))
        for moment in range(block.first, block.last + 1):
            living[moment].append((at, at + size))
        addresses[block.key] = at
        end = max(end, at + size)
    return addresses, end


def best_fit(busy: list[Interval], size: int, start: int) -> int:
    """Start of the smallest gap of `size` bytes between sorted busy intervals; behind them if there is
    none.
    """
    best, best_size, free = -1, -1, start
    for lo, hi in busy:
        if lo - free >= size and (best < 0 or lo - free < best_size):
            best, best_size = free, lo - free
        free = max(free, hi)
    return free if best < 0 else best


def gaps_between(busy: Iterable[Interval], end: int) -> tuple[Interval, ...]:
    """The free intervals of 0..end outside the busy ones."""
    out, free = [], 0
    for lo, hi in sorted(busy):
        if lo > free:
            out.append((free, lo))
        free = max(free, hi)
    if free < end:
        out.append((free, end))
    return tuple(out)


def first_fit(
    blocks: Sequence[tuple[int, int]], gaps: Sequence[Interval]
) -> tuple[tuple[int, ...], ...] | None:
    """Addresses in free gaps for buffers that all live at once, given as (bytes, number) per operand, the
    largest first; None if they do not fit.
    """
    free = [list(gap) for gap in gaps]
    out: list[list[int]] = [[] for _ in blocks]
    for size, k in sorted(((size, k) for k, (size, n) in enumerate(blocks) for _ in range(n)), reverse=True):
        gap = next((g for g in free if g[1] - g[0] >= size), None)
        if gap is None:
            return None
        out[k].append(gap[0])
        gap[0] += size
    return tuple(tuple(addresses) for addresses in out)


@dataclass(slots=True)
class RingAllocator:
    """Hands out tile buffers round and round the free memory: the bytes handed out longest ago come next.

    So LOAD can run ahead of the engines as far as the memory reaches, across tiles and layers; tokens make
    it wait where a buffer is still in use.
    """

    alignment: int
    at: int = 0

    def allocate(self, nbytes: int, gaps: Sequence[Interval], held: Sequence[Interval]) -> int | None:
        """Address of `nbytes` free bytes that overlap nothing in `held`; None when no gap has them."""
        size = aligned(nbytes, self.alignment)
        ahead = [(max(lo, self.at), hi) for lo, hi in gaps if hi > self.at]
        for lo, hi in (*ahead, *gaps):
            at = _free_in(lo, hi, size, held)
            if at is not None:
                self.at = at + size
                return at
        return None


def _free_in(lo: int, hi: int, size: int, held: Sequence[Interval]) -> int | None:
    """The first address in lo..hi where `size` bytes overlap nothing held."""
    at = lo
    while at + size <= hi:
        clash = max((end for start, end in held if start < at + size and at < end), default=at)
        if clash == at:
            return at
        at = clash
    return None
