"""Which tensors are in the L2M instead of DDR: those that save most DDR traffic for the bytes they take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from openbpu.compiler.schedule.memory.allocator import Life, pack
from openbpu.compiler.schedule.memory.live_ranges import Use


def choose_shared(
    uses: Mapping[int, Use], wanted: Iterable[int], alignment: int, start: int, end: int
) -> dict[int, int]:
    """L2M addresses in start..end by root, for some of the tensors that need memory outside the cores.

    As many as fit at once, by accesses per job of their life; no two that live at once overlap.
    """
    lives = [Life(root, uses[root].nbytes, uses[root].first, uses[root].last) for root in wanted]
    pressure = np.full(1 + max((life.last for life in lives), default=0), start, dtype=np.int64)
    taken = []
    for life in sorted(lives, key=lambda f: (-_density(uses[f.key]), f.first, f.key)):
        part = pressure[life.first : life.last + 1]
        if (part + life.nbytes <= end).all():
            part += life.nbytes
            taken.append(life)
    addresses, _ = pack(taken, alignment, start)
    nbytes = {life.key: life.nbytes for life in taken}
    return {root: at for root, at in addresses.items() if at + nbytes[root] <= end}


def _density(use: Use) -> float:
    """Accesses of a tensor per job of its life."""
    return (len(use.reads) + len(use.writes)) / (use.last - use.first + 1)
