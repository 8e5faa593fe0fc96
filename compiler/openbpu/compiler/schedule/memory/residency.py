"""Which tensors live on chip, from when to when: those whose stay saves most DDR traffic for the bytes it
takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from openbpu.compiler.schedule.memory.allocator import Life, pack
from openbpu.compiler.schedule.memory.live_ranges import Span, Use


@dataclass(frozen=True, slots=True)
class Home:
    """A whole tensor in on-chip memory while jobs first..last run; `saved`: DDR bytes that this saves.

    stored: every write goes to DDR too (only that of `wanted` bytes, if given) · loaded: its bytes come from
    DDR, when a job first needs them (all but `own`, if given; `by_rows`: no more than a tile needs). `low`:
    the byte of the tensor that it starts with; 0 where it is the whole one.
    """

    root: int
    nbytes: int
    first: int
    last: int
    saved: int
    stored: bool
    loaded: bool
    address: int = -1
    low: int = 0
    own: Span | None = None
    by_rows: bool = False
    wanted: tuple[Span, ...] | None = None

    @property
    def base(self) -> int:
        """Where the tensor's first byte would be."""
        return self.address - self.low

    def wants(self, lo: int, hi: int) -> bool:
        """Whether some of the tensor's bytes lo..hi must be stored."""
        if self.wanted is None:
            return self.stored
        return self.stored and any(lo < end and start < hi for start, end in self.wanted)

    @property
    def interval(self) -> tuple[int, int]:
        """Its bytes."""
        return (self.address, self.address + self.nbytes)

    @property
    def density(self) -> float:
        """DDR bytes saved per byte and job of its stay."""
        return self.saved / (self.nbytes * (self.last - self.first + 1))


def options(use: Use) -> list[Home]:
    """Stays of a tensor, the longest first: until its last reader, the one before, …"""
    out = []
    n = len(use.reads)
    for k in range(n, -1, -1):
        last = max((*use.writes[-1:], *use.reads[k - 1 : k]), default=-1)
        stored = not use.given and (use.kept or k < n)
        transfers = k - 1 if use.given else k + (not stored)
        if transfers > 0:
            saved = transfers * use.nbytes
            loaded = use.given or use.own is not None
            wanted = use.wanted if k == n else None
            home = Home(use.root, use.nbytes, use.first, last, saved, stored, loaded)
            out.append(replace(home, low=use.low, own=use.own, by_rows=use.by_rows, wanted=wanted))
    return out


def choose_homes(
    uses: Mapping[int, Use], reserve: Sequence[int], chip_bytes: int, alignment: int
) -> list[Home]:
    """Homes with addresses: whole lives first, by bytes saved per byte and job, then partial ones.

    `reserve`: bytes that the tile buffers of every job need beside homes. A home that the packing cannot
    place is left out.
    """
    pressure = np.array(reserve, dtype=np.int64)
    chosen: dict[int, Home] = {}

    def accept(home: Home) -> None:
        part = pressure[home.first : home.last + 1]
        if home.root in chosen or (part + home.nbytes > chip_bytes).any():
            return
        part += home.nbytes
        chosen[home.root] = home

    stays = [options(use) for use in uses.values() if use.nbytes]
    for home in sorted((s[0] for s in stays if s), key=lambda h: (-h.density, h.first, h.root)):
        accept(home)
    for home in sorted((h for s in stays for h in s[1:]), key=lambda h: (-h.saved, -h.density, h.first)):
        accept(home)
    lives = [Life(h.root, h.nbytes, h.first, h.last) for h in chosen.values()]
    addresses, _ = pack(lives, alignment)
    placed = [replace(h, address=addresses[h.root]) for h in chosen.values()]
    return [h for h in placed if h.interval[1] <= chip_bytes]
