"""Tile buffers: where every tile of a job lies on chip while it is loaded, used and stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from openbpu.arch.shapes import dense_strides
from openbpu.compiler.schedule.memory.allocator import RingAllocator
from openbpu.compiler.schedule.memory.residency import Residency
from openbpu.compiler.schedule.problem.byte_ranges import Interval
from openbpu.compiler.schedule.problem.index_maps import Box
from openbpu.compiler.schedule.problem.job import Job, Operand, View, lengths
from openbpu.compiler.schedule.tiling.tile_search import Tiling

_CROWDED = 8
"""The ring serves a job unless more than one tile in so many gets the buffer of the tile before it."""
Residencies = tuple[Residency | None, ...]
"""Where every operand of a job stays on chip; None for those that have tile buffers."""
TileBuffers = tuple[View | None, ...]
"""The tile buffers of one tile: a view per operand, None for those that stay on chip."""


@dataclass(frozen=True, slots=True)
class TiledJob:
    """A job ready to emit: its tiling, where its operands stay on chip, and the gaps between what stays."""

    job: Job
    tiling: Tiling
    residencies: Residencies
    gaps: tuple[Interval, ...]


def tile_buffer(at: int, operand: Operand, region: Box) -> View:
    """A dense view of an operand's region at an address."""
    return View(at, dense_strides(lengths(region), operand.element), region)


def _buffered(tiled: TiledJob) -> list[int]:
    """The operands (by position) that need tile buffers."""
    if tiled.job.copy:
        return [] if any(tiled.residencies) else [0]
    return [k for k, residency in enumerate(tiled.residencies) if residency is None]


def fixed_buffers(tiled: TiledJob, tiles: Sequence[Box], reuse: bool) -> list[TileBuffers]:
    """The tile buffers of every tile, at the addresses of the tiling, which are used in turn."""
    job = tiled.job
    now: list[View | None] = [None] * len(job.operands)
    turns = [0] * len(job.operands)
    steps: list[TileBuffers] = []
    for box in tiles:
        for k in _buffered(tiled):
            region = job.operands[k].region(box)
            view = now[k]
            if view is None or view.region != region or not (reuse or job.operands[k].output):
                addresses = tiled.tiling.addresses[k]
                now[k] = tile_buffer(addresses[turns[k] % len(addresses)], job.operands[k], region)
                turns[k] += 1
        steps.append(tuple(now))
    return steps


def ring_buffers(
    tiled: TiledJob, tiles: Sequence[Box], ring: RingAllocator, reuse: bool
) -> list[TileBuffers] | None:
    """The tile buffers of every tile, from the ring; None (and the ring as it was) when one finds no room.

    Or when too many get only the room of the tile before them: double buffers of their own do better.
    """
    job, before, crowded = tiled.job, ring.at, 0
    now: list[View | None] = [None] * len(job.operands)
    held: dict[int, Interval] = {}
    steps: list[TileBuffers] = []
    for box in tiles:
        changed, last = [], dict(held)
        for k in _buffered(tiled):
            region, view = job.operands[k].region(box), now[k]
            if view is None or view.region != region or not (reuse or job.operands[k].output):
                changed.append((k, region))
                held.pop(k, None)
        for k, region in changed:
            nbytes = prod(lengths(region)) * job.operands[k].element
            apart = [last[k]] if k in last and len(tiled.tiling.addresses[k]) > 1 else []
            at = ring.allocate(nbytes, tiled.gaps, (*held.values(), *apart))
            if at is None and apart:
                crowded += 1
                at = ring.allocate(nbytes, tiled.gaps, tuple(held.values()))
            if at is None or crowded * _CROWDED > len(tiles):
                ring.at = before
                return None
            held[k] = (at, at + nbytes)
            now[k] = tile_buffer(at, job.operands[k], region)
        steps.append(tuple(now))
    return steps
