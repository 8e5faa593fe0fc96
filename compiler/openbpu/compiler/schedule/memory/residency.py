"""Residency: which tensors stay in on-chip memory, and from when to when.

Chosen are the stays that save most DDR traffic for the memory they take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from openbpu.compiler.schedule.memory.allocator import LiveBlock, pack
from openbpu.compiler.schedule.memory.live_ranges import LiveRange
from openbpu.compiler.schedule.problem.byte_ranges import Interval


@dataclass(frozen=True, slots=True)
class Residency:
    """The stay of a tensor in on-chip memory at `address`, from moment `first` to moment `last`.

    saved_bytes: DDR traffic that the stay saves · stored: what is written goes to DDR too (only `exported`
    bytes, if given) · loaded: the bytes come from DDR when a job first needs them (all but those `written`
    here, if given; `by_rows`: no more than a tile needs) · low: the tensor's byte that is at `address`; 0
    where all of the tensor stays.
    """

    root: int
    nbytes: int
    first: int
    last: int
    saved_bytes: int
    stored: bool
    loaded: bool
    address: int = -1
    low: int = 0
    written: Interval | None = None
    by_rows: bool = False
    exported: tuple[Interval, ...] | None = None

    @property
    def base(self) -> int:
        """The address that byte 0 of the tensor has or would have."""
        return self.address - self.low

    def must_store(self, lo: int, hi: int) -> bool:
        """Whether some of the tensor's bytes lo..hi must be stored to DDR when they are written."""
        if self.exported is None:
            return self.stored
        return self.stored and any(lo < end and start < hi for start, end in self.exported)

    @property
    def interval(self) -> Interval:
        """The on-chip bytes that it takes."""
        return (self.address, self.address + self.nbytes)

    @property
    def density(self) -> float:
        """DDR bytes saved per on-chip byte and moment of the stay."""
        return self.saved_bytes / (self.nbytes * (self.last - self.first + 1))


def residencies_of(life: LiveRange) -> list[Residency]:
    """The stays that a tensor may have, the longest first: until its last reader, the one before, …"""
    out = []
    n = len(life.reads)
    for k in range(n, -1, -1):
        last = max((*life.writes[-1:], *life.reads[k - 1 : k]), default=-1)
        stored = not life.live_in and (life.live_out or k < n)
        transfers = k - 1 if life.live_in else k + (not stored)
        if transfers > 0:
            stay = Residency(
                life.root,
                life.nbytes,
                life.first,
                last,
                saved_bytes=transfers * life.nbytes,
                stored=stored,
                loaded=life.live_in or life.written is not None,
                low=life.low,
                written=life.written,
                by_rows=life.by_rows,
                exported=life.exported if k == n else None,
            )
            out.append(stay)
    return out


def choose_residencies(
    live_ranges: Mapping[int, LiveRange], reserve: Sequence[int], chip_bytes: int, alignment: int
) -> list[Residency]:
    """Stays with addresses: whole live ranges first, by bytes saved per byte and moment, then partial ones.

    `reserve`: bytes that the tile buffers of every unit need beside them. A stay that the packing cannot
    place is left out.
    """
    pressure = np.array(reserve, dtype=np.int64)
    chosen: dict[int, Residency] = {}

    def accept(stay: Residency) -> None:
        part = pressure[stay.first : stay.last + 1]
        if stay.root in chosen or (part + stay.nbytes > chip_bytes).any():
            return
        part += stay.nbytes
        chosen[stay.root] = stay

    stays = [residencies_of(life) for life in live_ranges.values() if life.nbytes]
    for stay in sorted((s[0] for s in stays if s), key=lambda s: (-s.density, s.first, s.root)):
        accept(stay)
    partial = (stay for s in stays for stay in s[1:])
    for stay in sorted(partial, key=lambda s: (-s.saved_bytes, -s.density, s.first)):
        accept(stay)
    blocks = [LiveBlock(s.root, s.nbytes, s.first, s.last) for s in chosen.values()]
    addresses, _ = pack(blocks, alignment)
    placed = [replace(s, address=addresses[s.root]) for s in chosen.values()]
    return [s for s in placed if s.interval[1] <= chip_bytes]
