"""Jobs with plans and addresses to tile instructions: loads, compute, stores, and their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from openbpu.arch.isa import HEADER_DTYPE, L2M_BASE, Code, Instr, Load, Store, encode
from openbpu.compiler.schedule.codegen.dependencies import Interval, Tokens, Wait
from openbpu.compiler.schedule.codegen.transfers import loads, stores
from openbpu.compiler.schedule.memory.allocator import Gap, Ring
from openbpu.compiler.schedule.memory.residency import Home
from openbpu.compiler.schedule.problem.byte_ranges import beyond
from openbpu.compiler.schedule.problem.index_maps import Box, Ints
from openbpu.compiler.schedule.problem.job import Job, Operand, View, lengths
from openbpu.compiler.schedule.problem.strides import dense_strides
from openbpu.compiler.schedule.tiling.cost import Rules
from openbpu.compiler.schedule.tiling.tile_search import Plan, boxes

_CROWDED = 8
"""The ring serves a job unless more than one tile in so many gets the buffer of the tile before it."""
Homes = tuple[Home | None, ...]
"""Where each operand lives on chip, if it does."""
Step = tuple[View | None, ...]
"""The tile buffers of one tile: a view per operand, None for those that live on chip."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A job ready to emit: its plan, the homes of its operands (None: tile buffers) and the free memory."""

    job: Job
    plan: Plan
    homes: Homes
    gaps: tuple[Gap, ...]


@dataclass(slots=True)
class Emitter:
    """Collects the instructions of one core in program order.

    `ddr`: flat address by root, in DDR or the L2M; DDR below `ddr_base` is constant and needs no tokens.
    """

    ddr: Mapping[int, int]
    ddr_base: int
    rules: Rules
    instrs: list[Instr] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    tokens: Tokens = field(default_factory=Tokens)
    chip_bytes: int = 0
    ddr_bytes: int = 0  # loaded and stored
    ring: Ring = field(init=False)
    covered: dict[Home, Interval] = field(default_factory=dict)
    rows: set[tuple[Home, int, Ints, Box]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.ring = Ring(self.rules.march.alignment)

    def job(self, placed: Placed) -> None:
        """Emit all tiles of a job, in the plan's loop order."""
        job, plan = placed.job, placed.plan
        tiles = list(boxes(job.extent, plan.tile, plan.order))
        steps = (self.rules.double and _in_turn(placed, tiles, self.ring, self.rules.reuse)) or _fixed(
            placed, tiles, self.rules.reuse
        )
        loaded: list[View | None] = [None] * len(job.operands)
        for box, step in zip(tiles, steps, strict=True):
            if job.copy:
                self.copy_tile(job, placed.homes, box, step[0])
            else:
                self.tile(job, placed.homes, box, step, loaded)

    def code(self) -> Code:
        """The encoded program."""
        code = encode(self.instrs)
        if self.instrs:
            code.view(HEADER_DTYPE)[:, 0]["wait"] = np.array(self.waits, dtype=np.uint32)
        return code

    def tile(self, job: Job, homes: Homes, box: Box, step: Step, loaded: list[View | None]) -> None:
        """One tile: loads of the buffers that are not `loaded` yet, compute, store."""
        views: list[View] = []
        for k in sorted(range(len(step)), key=lambda k: not job.operands[k].constant):
            view = step[k]
            if view and view is not loaded[k] and not job.operands[k].output:
                self._load(job, job.operands[k], view)
        loaded[:] = step
        for operand, home, view in zip(job.operands, homes, step, strict=True):
            region = operand.region(box)
            if view is None and not operand.output:
                self._cover(job, operand, home, region)
            views.append(view or _inside(home, operand, region))
        spans = [v.extent(o.element) for v, o in zip(views, job.operands, strict=True)]
        for instr in job.emit(box, tuple(views)):
            self.add(instr, reads=spans[:-1], writes=spans[-1:])
        target = homes[-1]
        if target is None or target.wants(*(at - target.base for at in spans[-1])):
            self._store(job, job.operands[-1], views[-1])

    def copy_tile(self, job: Job, homes: Homes, box: Box, buffer: View | None) -> None:
        """A tile that LOAD and STORE move; the layout engine only where both sides are on chip."""
        (x, y), (source, target) = job.operands, homes
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
            if target.wants(*(at - target.base for at in view.extent(y.element))):
                self._store(job, y, view)

    def _cover(self, job: Job, operand: Operand, home: Home | None, region: Box) -> None:
        """Load what a region of a home that comes from DDR still lacks: rows if it is whole rows, else
        all.
        """
        if home is None or not home.loaded:
            return
        if home.by_rows and home.own:
            self._cover_rows(job, operand, home, beyond(operand, region, home.own) or [])
            return
        span = _inside(home, operand, region).extent(operand.element)
        lo, hi = span[0] - home.base, span[1] - home.base
        have = self.covered.get(home, home.own)
        if have and have[0] <= lo and hi <= have[1]:
            return
        dense = hi - lo == prod(lengths(region)) * operand.element
        if not dense or (have and (lo > have[1] or hi < have[0])):
            lo, hi = home.low, home.low + home.nbytes
        parts = [(lo, min(hi, have[0])), (max(lo, have[1]), hi)] if have else [(lo, hi)]
        for start, end in parts:
            if start < end:
                self._load_bytes(job, home, start, end)
        self.covered[home] = (min(lo, have[0]), max(hi, have[1])) if have else (lo, hi)

    def _cover_rows(self, job: Job, operand: Operand, home: Home, parts: Sequence[Box]) -> None:
        """Load parts of an operand into its home, unless they are there."""
        for part in parts:
            key = (home, operand.offset, operand.strides, part)
            if key not in self.rows:
                self.rows.add(key)
                self._load(job, operand, _inside(home, operand, part))

    def _load_bytes(self, job: Job, home: Home, start: int, end: int) -> None:
        nothing = (0, 0, 0, 0)
        instr = Load(
            operator=job.index,
            ddr=self.ddr[home.root] + start,
            chip=home.base + start,
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


def _inside(home: Home | None, operand: Operand, region: Box) -> View:
    """A region of an operand inside its home."""
    if home is None:
        raise ValueError(f"tensor {operand.tensor} has neither a tile buffer nor a home")
    return View(home.base + operand.start(region), operand.strides, region)


def tile_buffer(at: int, operand: Operand, region: Box) -> View:
    """A dense view of a region at an address."""
    return View(at, dense_strides(lengths(region), operand.element), region)


def _seen_as(view: View, region: Box) -> View:
    """A view of one operand of a copy as a region of the other: the same axes of length > 1 in the same
    order.
    """
    steps = iter([k for k, (lo, hi) in zip(view.strides, view.region, strict=True) if hi - lo > 1])
    return View(view.at, tuple([next(steps) if hi - lo > 1 else 0 for lo, hi in region]), region)


def _buffered(placed: Placed) -> list[int]:
    """The operands that need tile buffers."""
    if placed.job.copy:
        return [] if any(placed.homes) else [0]
    return [k for k, home in enumerate(placed.homes) if home is None]


def _fixed(placed: Placed, tiles: Sequence[Box], reuse: bool) -> list[Step]:
    """Tile buffers at the plan's own addresses, used in turn."""
    job = placed.job
    now: list[View | None] = [None] * len(job.operands)
    turns = [0] * len(job.operands)
    steps: list[Step] = []
    for box in tiles:
        for k in _buffered(placed):
            region = job.operands[k].region(box)
            view = now[k]
            if view is None or view.region != region or not (reuse or job.operands[k].output):
                addresses = placed.plan.addresses[k]
                now[k] = tile_buffer(addresses[turns[k] % len(addresses)], job.operands[k], region)
                turns[k] += 1
        steps.append(tuple(now))
    return steps


def _in_turn(placed: Placed, tiles: Sequence[Box], ring: Ring, reuse: bool) -> list[Step] | None:
    """Tile buffers from the ring; None (and the ring as it was) when one finds no room.

    Or when too many get only the room of the tile before them: double buffers of their own do better.
    """
    job, before, crowded = placed.job, ring.at, 0
    now: list[View | None] = [None] * len(job.operands)
    held: dict[int, Gap] = {}
    steps: list[Step] = []
    for box in tiles:
        changed, last = [], dict(held)
        for k in _buffered(placed):
            region, view = job.operands[k].region(box), now[k]
            if view is None or view.region != region or not (reuse or job.operands[k].output):
                changed.append((k, region))
                held.pop(k, None)
        for k, region in changed:
            nbytes = prod(lengths(region)) * job.operands[k].element
            apart = [last[k]] if k in last and len(placed.plan.addresses[k]) > 1 else []
            at = ring.take(nbytes, placed.gaps, (*held.values(), *apart))
            if at is None and apart:
                crowded += 1
                at = ring.take(nbytes, placed.gaps, tuple(held.values()))
            if at is None or crowded * _CROWDED > len(tiles):
                ring.at = before
                return None
            held[k] = (at, at + nbytes)
            now[k] = tile_buffer(at, job.operands[k], region)
        steps.append(tuple(now))
    return steps


def _spans(instr: Load | Store) -> tuple[Interval, Interval]:
    """The bytes between the first and the last that a transfer touches, in DDR and on chip."""
    far = sum([(n - 1) * s for n, s in zip(instr.counts, instr.ddr_strides, strict=True)])
    near = sum([(n - 1) * s for n, s in zip(instr.counts, instr.chip_strides, strict=True)])
    row = instr.row_bytes
    return (instr.ddr, instr.ddr + far + row), (instr.chip, instr.chip + near + row)
