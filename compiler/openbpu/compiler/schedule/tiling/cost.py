"""What candidate tile shapes cost: on-chip bytes, DDR transfers, engine cycles; all candidates at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Int64
from openbpu.arch.shapes import Ints
from openbpu.arch.timing import memory_cycles, port_cycles, shared_cycles
from openbpu.compiler.schedule.problem.index_maps import Tiles
from openbpu.compiler.schedule.problem.job import Job, Operand
from openbpu.compiler.schedule.tiling.policy import Policy


class Buffering(Enum):
    """Which operands have two tile buffers, so that one is filled or emptied while the other is in use."""

    DOUBLE = "all whose tile changes"
    INNER = "those whose tile changes every time"
    SINGLE = "none"


@dataclass(frozen=True, slots=True)
class TilingContext:
    """What surrounds a job: which of its operands are resident, and who waits for its output.

    resident: operands (by position) that stay on chip, so they need neither buffer nor transfer · stored: the
    output stays on chip and is stored too · handoff: another engine waits for the output, tile by tile.
    """

    resident: frozenset[int] = frozenset()
    stored: bool = False
    handoff: bool = False


@dataclass(frozen=True, slots=True)
class TileTraffic:
    """Moving one operand's tile once, per candidate: its bytes, cycles of LOAD or STORE and of the memory."""

    nbytes: Int64
    engine: Int64
    memory: Int64


@dataclass(frozen=True, slots=True)
class OrderCosts:
    """What candidates cost under one loop order, int64 [n]: cycles, DDR bytes, on-chip bytes of all buffers.

    `depths`: number of buffers, [operands, n].
    """

    order: Ints
    cycles: Int64
    ddr_bytes: Int64
    nbytes: Int64
    depths: Int64


class TileCosts:
    """The cost of a job's candidate tiles [axes, n]; what does not depend on the loop order, worked out once.

    `sizes`: bytes of a buffer per operand, [operands, n]; 0 where it needs none.
    """

    def __init__(self, job: Job, tiles: Tiles, context: TilingContext, policy: Policy) -> None:
        self.job, self.tiles, self.context, self.policy = job, tiles, context, policy
        extent = np.array(job.extent)[:, None]
        self.trips = -(-extent // tiles)
        self.total: Int64 = self.trips.prod(axis=0)
        self.traffic = [traffic_of(o, tiles, policy) for o in job.operands]
        self.compute = job.cycles(policy.march, tiles)
        align = policy.march.alignment
        self.sizes = np.zeros((len(self.traffic), tiles.shape[1]), dtype=np.int64)
        for k, part in enumerate(self.traffic):
            if self._buffered(k):
                self.sizes[k] = -(-part.nbytes // align) * align

    def under_order(self, order: Ints, buffers: Buffering) -> OrderCosts:
        """What the candidates cost with their loops in this order, outermost first."""
        changes = [self._changes(k, order) for k in range(len(self.traffic))]
        doubled = [self._doubled(times, buffers) for times in changes]
        depths = np.zeros_like(self.sizes)
        for k, twice in enumerate(doubled):
            if self._buffered(k):
                depths[k] = 1 + twice
        cycles = self._cycles(changes, doubled, buffers)
        return OrderCosts(order, cycles, self._ddr_bytes(changes), (self.sizes * depths).sum(axis=0), depths)

    def _changes(self, k: int, order: Ints) -> Int64:
        """How often operand k changes its region while the loops turn."""
        operand = self.job.operands[k]
        if not (self.policy.reuse or operand.output):
            return self.total
        seen: Int64 = np.ones_like(self.total)
        turns = seen
        for d in order:
            turns = turns * self.trips[d]
            if d in operand.dims:
                seen = np.where(self.trips[d] > 1, turns, seen)
        return seen

    def _doubled(self, changes: Int64, buffers: Buffering) -> npt.NDArray[np.bool_]:
        """Whether an operand whose tile changes so often has two buffers."""
        if buffers is Buffering.SINGLE:
            return np.zeros_like(changes, dtype=np.bool_)
        least = 2 if buffers is Buffering.DOUBLE else np.maximum(self.total, 2)
        return np.asarray(changes >= least)

    def _buffered(self, k: int) -> bool:
        """Whether operand k has a tile buffer of its own: a copy's output leaves from its input's buffer."""
        if k in self.context.resident:
            return False
        return not self.job.copy or (k == 0 and not self.context.resident)

    def _ddr_bytes(self, changes: Sequence[Int64]) -> Int64:
        """Bytes between DDR and chip, by candidate."""
        total = np.zeros_like(self.total)
        for k, part in enumerate(self.traffic):
            if self._travels(k) and self.job.operands[k].root not in self.policy.in_l2m:
                total += changes[k] * part.nbytes
        return total

    def _travels(self, k: int) -> bool:
        """Whether operand k goes through DDR or the L2M."""
        if k not in self.context.resident:
            return True
        return k == len(self.traffic) - 1 and self.context.stored

    def _cycles(
        self, changes: Sequence[Int64], doubled: Sequence[npt.NDArray[np.bool_]], buffers: Buffering
    ) -> Int64:
        """Estimated cycles of the job, by candidate: the busiest engine, then what cannot overlap with it.

        Half of everything is added, since what one job leaves idle others can use.
        """
        loads = memory = first = exposed = moved = np.zeros_like(self.total)
        last = len(self.traffic) - 1
        stores = np.zeros_like(self.total)
        for k, part in enumerate(self.traffic):
            if not self._travels(k):
                continue
            times = changes[k]
            memory = memory + times * part.memory
            moved = moved + times * part.nbytes
            alone: Int64 = np.where(doubled[k], 0, times - 1)
            exposed = exposed + alone * (part.engine + self.policy.march.ddr.latency_cycles)
            if k == last:
                stores = times * part.engine
                first = first + part.engine
            else:
                loads = loads + times * part.engine
                first = first + (part.engine // 4 if self.job.operands[k].constant else part.engine)
        compute = self.total * self.compute
        if self.job.copy and len(self.context.resident) < 2:
            compute = np.zeros_like(compute)
        compute = compute + port_cycles(self.policy.march, moved)
        everything: Int64 = loads + stores + compute
        if buffers is Buffering.SINGLE:
            return np.asarray(exposed + first + compute + everything // 2)
        busiest = np.maximum(np.maximum(loads, stores), np.maximum(memory, compute))
        tail = self.compute if self.context.handoff else np.minimum(self.compute, first)
        return np.asarray(busiest + exposed + first + tail + everything // 2)


def traffic_of(operand: Operand, tiles: Tiles, policy: Policy) -> TileTraffic:
    """What moving one operand's tile costs, per candidate tile shape."""
    march = policy.march
    shape = operand.tile_shape(tiles)
    rows = run = np.ones(tiles.shape[1], dtype=np.int64)
    contiguous = np.ones(tiles.shape[1], dtype=np.bool_)
    reach = operand.element
    for n, full, stride in zip(
        reversed(shape), reversed(operand.shape), reversed(operand.strides), strict=True
    ):
        if full == 1:
            continue
        contiguous = contiguous & (stride == reach)
        run, rows = np.where(contiguous, run * n, run), np.where(contiguous, rows, rows * n)
        contiguous = contiguous & (n == full)
        reach = stride * full
    nbytes = rows * run * operand.element
    if operand.root in policy.in_l2m:
        return TileTraffic(
            nbytes, march.ddr.issue_cycles + shared_cycles(march, nbytes), np.zeros_like(nbytes)
        )
    memory = memory_cycles(march, rows=rows, run=run * operand.element)
    return TileTraffic(nbytes, memory + march.ddr.issue_cycles, memory)
