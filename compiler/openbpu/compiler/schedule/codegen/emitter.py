"""The emitter: tiled jobs to instructions, in program order: loads, compute, stores, and their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from openbpu.arch.isa import HEADER_DTYPE, L2M_BASE, Code, Instr, Load, Store, encode
from openbpu.arch.shapes import Ints
from openbpu.compiler.schedule.codegen.dependencies import DependencyTracker, Wait
from openbpu.compiler.schedule.codegen.tile_buffers import (
    Residencies,
    TileBuffers,
    TiledJob,
    fixed_buffers,
    ring_buffers,
)
from openbpu.compiler.schedule.codegen.transfers import loads, stores
from openbpu.compiler.schedule.memory.allocator import RingAllocator
from openbpu.compiler.schedule.memory.residency import Residency
from openbpu.compiler.schedule.problem.byte_ranges import Interval, regions_outside
from openbpu.compiler.schedule.problem.index_maps import Box
from openbpu.compiler.schedule.problem.job import Job, Operand, View, lengths
from openbpu.compiler.schedule.tiling.policy import Policy
from openbpu.compiler.schedule.tiling.tile_search import tile_boxes


@dataclass(slots=True)
class Emitter:
    """Collects the instructions of one core in program order.

    ddr: flat address by root, in DDR or the L2M; below `ddr_base` all is constant and needs no tokens ·
    chip_bytes: on-chip memory used · ddr_bytes: loaded and stored · covered: the bytes of a resident tensor
    that are loaded · rows: the regions that are, where it is loaded by rows.
    """

    ddr: Mapping[int, int]
    ddr_base: int
    policy: Policy
    instrs: list[Instr] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    tokens: DependencyTracker = field(default_factory=DependencyTracker)
    chip_bytes: int = 0
    ddr_bytes: int = 0
    ring: RingAllocator = field(init=False)
    covered: dict[Residency, Interval] = field(default_factory=dict)
    rows: set[tuple[Residency, int, Ints, Box]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.ring = RingAllocator(self.policy.march.alignment)

    def job(self, tiled: TiledJob) -> None:
        """Emit all tiles of a job, in the loop order of its tiling."""
        job, tiling = tiled.job, tiled.tiling
        tiles = list(tile_boxes(job.extent, tiling.tile, tiling.order))
        reuse = self.policy.reuse
        steps = ring_buffers(tiled, tiles, self.ring, reuse) if self.policy.double_buffered else None
        steps = steps or fixed_buffers(tiled, tiles, reuse)
        loaded: list[View | None] = [None] * len(job.operands)
        for box, step in zip(tiles, steps, strict=True):
            if job.copy:
                self.copy_tile(job, tiled.residencies, box, step[0])
            else:
                self.tile(job, tiled.residencies, box, step, loaded)

    def code(self) -> Code:
        """The encoded program."""
        code = encode(self.instrs)
        if self.instrs:
            code.view(HEADER_DTYPE)[:, 0]["wait"] = np.array(self.waits, dtype=np.uint32)
        return code

    def tile(
        self, job: Job, residencies: Residencies, box: Box, step: TileBuffers, loaded: list[View | None]
    ) -> None:
        """Emit one tile: loads of the buffers that are not `loaded` yet, compute, store."""
        views: list[View] = []
        for k in sorted(range(len(step)), key=lambda k: not job.operands[k].constant):
            view = step[k]
            if view and view is not loaded[k] and not job.operands[k].output:
                self._load(job, job.operands[k], view)
        loaded[:] = step
        for operand, residency, view in zip(job.operands, residencies, step, strict=True):
            region = operand.region(box)
            if view is None and not operand.output:
                self._cover(job, operand, residency, region)
            views.append(view or _inside(residency, operand, region))
        spans = [v.extent(o.element) for v, o in zip(views, job.operands, strict=True)]
        for instr in job.emit(box, tuple(views)):
            self.add(instr, reads=spans[:-1], writes=spans[-1:])
        target = residencies[-1]
        if target is None or target.must_store(*(at - target.base for at in spans[-1])):
            self._store(job, job.operands[-1], views[-1])

    def copy_tile(self, job: Job, residencies: Residencies, box: Box, buffer: View | None) -> None:
        """Emit a tile that LOAD and STORE move; the layout engine only where both sides are on chip."""
        (x, y), (source, target) = job.operands, residencies
        here, there = x.region(box), y.region(box)
        if buffer:
            self._load(job, x, buffer)
            self._store(job, y, _seen_as(buffer, there))
            return
        if source:
            self._cover(job, x, source, here)
        if source and target:
            views = (_inside(source, x, here), _inside(target, y, there))
            spans = views[0].extent(x.element), views[1].extent(y.element)
            for instr in job.emit(box, views):
                self.add(instr, reads=spans[:1], writes=spans[1:])
        elif target:
            self._load(job, x, _seen_as(_inside(target, y, there), here))
        if source and not target:
            self._store(job, y, _seen_as(_inside(source, x, here), there))
        elif target:
            view = _inside(target, y, there)
            if target.must_store(*(at - target.base for at in view.extent(y.element))):
                self._store(job, y, view)

    def _cover(self, job: Job, operand: Operand, residency: Residency | None, region: Box) -> None:
        """Load what a region of a resident tensor still lacks of what comes from DDR: the region if it is
        dense, else all of the tensor.
        """
        if residency is None or not residency.loaded:
            return
        if residency.by_rows and residency.written:
            missing = regions_outside(operand, region, residency.written) or []
            self._cover_rows(job, operand, residency, missing)
            return
        span = _inside(residency, operand, region).extent(operand.element)
        lo, hi = span[0] - residency.base, span[1] - residency.base
        have = self.covered.get(residency, residency.written)
        if have and have[0] <= lo and hi <= have[1]:
            return
        dense = hi - lo == prod(lengths(region)) * operand.element
        if not dense or (have and (lo > have[1] or hi < have[0])):
            lo, hi = residency.low, residency.low + residency.nbytes
        parts = [(lo, min(hi, have[0])), (max(lo, have[1]), hi)] if have else [(lo, hi)]
        for start, end in parts:
            if start < end:
                self._load_bytes(job, residency, start, end)
        self.covered[residency] = (min(lo, have[0]), max(hi, have[1])) if have else (lo, hi)

    def _cover_rows(self, job: Job, operand: Operand, residency: Residency, parts: Sequence[Box]) -> None:
        """Load parts of a resident operand, unless they are there."""
        for part in parts:
            key = (residency, operand.offset, operand.strides, part)
            if key not in self.rows:
                self.rows.add(key)
                self._load(job, operand, _inside(residency, operand, part))

    def _load_bytes(self, job: Job, residency: Residency, start: int, end: int) -> None:
        nothing = (0, 0, 0, 0)
        instr = Load(
            operator=job.index,
            ddr=self.ddr[residency.root] + start,
            chip=residency.base + start,
            row_bytes=end - start,
            counts=(1, 1, 1, 1),
            ddr_strides=nothing,
            chip_strides=nothing,
        )
        self._add_load(instr)

    def _load(self, job: Job, operand: Operand, view: View) -> None:
        for instr in loads(job.index, operand, self.ddr[operand.root], view):
            self._add_load(instr)

    def _add_load(self, instr: Load) -> None:
        far, near = _spans(instr)
        self._count(instr)
        self.add(instr, ddr_reads=() if far[0] < self.ddr_base else (far,), writes=(near,))

    def _store(self, job: Job, operand: Operand, view: View) -> None:
        for instr in stores(job.index, operand, self.ddr[operand.root], view):
            far, near = _spans(instr)
            self._count(instr)
            self.add(instr, reads=(near,), ddr_writes=(far,))

    def _count(self, instr: Load | Store) -> None:
        if instr.ddr < L2M_BASE:
            self.ddr_bytes += instr.row_bytes * prod(instr.counts)

    def add(
        self,
        instr: Instr,
        *,
        reads: Sequence[Interval] = (),
        writes: Sequence[Interval] = (),
        ddr_reads: Sequence[Interval] = (),
        ddr_writes: Sequence[Interval] = (),
    ) -> None:
        """Append an instruction that touches these bytes, with its tokens."""
        wait = self.tokens.issue(
            instr.ENGINE, reads=reads, writes=writes, ddr_reads=ddr_reads, ddr_writes=ddr_writes
        )
        if self.tokens.cores > 1 and isinstance(instr, Load | Store) and any(self.tokens.peers):
            instr = replace(instr, peers=self.tokens.peers)
        self.instrs.append(instr)
        self.waits.append(wait)
        for _, end in writes:
            self.chip_bytes = max(self.chip_bytes, end)


def _inside(residency: Residency | None, operand: Operand, region: Box) -> View:
    """A region of a resident operand where it stays on chip."""
    if residency is None:
        raise ValueError(f"tensor {operand.tensor} has no tile buffer and does not stay on chip")
    return View(residency.base + operand.start(region), operand.strides, region)


def _seen_as(view: View, region: Box) -> View:
    """A view of one operand of a copy as a region of the other: the same axes of length > 1 in the same
    order.
    """
    steps = iter([k for k, (lo, hi) in zip(view.strides, view.region, strict=True) if hi - lo > 1])
    return View(view.at, tuple([next(steps) if hi - lo > 1 else 0 for lo, hi in region]), region)


def _spans(instr: Load | Store) -> tuple[Interval, Interval]:
    """The bytes between the first and the last that a transfer touches, in DDR and on chip."""
    far = sum([(n - 1) * s for n, s in zip(instr.counts, instr.ddr_strides, strict=True)])
    near = sum([(n - 1) * s for n, s in zip(instr.counts, instr.chip_strides, strict=True)])
    row = instr.row_bytes
    return (instr.ddr, instr.ddr + far + row), (instr.chip, instr.chip + near + row)
