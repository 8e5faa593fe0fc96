"""The L2M: which tensors are in it instead of DDR: those that save most DDR traffic for their bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from openbpu.compiler.schedule.memory.allocator import LiveBlock, pack
from openbpu.compiler.schedule.memory.live_ranges import LiveRange


def choose_l2m(
    live_ranges: Mapping[int, LiveRange], wanted: Iterable[int], alignment: int, start: int, end: int
) -> dict[int, int]:
    """L2M addresses in start..end by root, for some of the `wanted` tensors.

    As many as fit at once, by accesses per moment of their live range; no two that live at once overlap.
    """
    lives = [live_ranges[root] for root in wanted]
    pressure = np.full(1 + max((life.last for life in lives), default=0), start, dtype=np.int64)
    taken = []
    for life in sorted(lives, key=lambda life: (-_density(life), life.first, life.root)):
        part = pressure[life.first : life.last + 1]
        if (part + life.nbytes <= end).all():
            part += life.nbytes
            taken.append(life)
    blocks = [LiveBlock(life.root, life.nbytes, life.first, life.last) for life in taken]
    addresses, _ = pack(blocks, alignment, start)
    return {b.key: addresses[b.key] for b in blocks if addresses[b.key] + b.nbytes <= end}


def _density(life: LiveRange) -> float:
    """Accesses of a tensor per moment of its live range."""
    return (len(life.reads) + len(life.writes)) / (life.last - life.first + 1)
