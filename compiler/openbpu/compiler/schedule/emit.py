"""Jobs with plans and addresses to tile instructions: loads, compute, stores, and their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from openbpu.arch.isa import HEADER_DTYPE, Code, Instr, Load, Store, encode
from openbpu.compiler.schedule.axes import Box
from openbpu.compiler.schedule.hazards import Interval, Tokens, Wait
from openbpu.compiler.schedule.job import Job, Operand, View, lengths
from openbpu.compiler.schedule.strided import dense_strides
from openbpu.compiler.schedule.tiling import Plan, boxes
from openbpu.compiler.schedule.transfer import loads, stores


@dataclass(frozen=True, slots=True)
class Placed:
    """A job ready to emit: its plan and, per operand, the addresses of its tile buffers (() when it is
    resident).
    """

    job: Job
    plan: Plan
    buffers: tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class _Slot:
    """The tile buffers of one operand, used in turn, and what the newest one holds."""

    addresses: tuple[int, ...]
    turn: int = -1
    view: View | None = None

    def next(self, operand: Operand, region: Box) -> View:
        """A dense view of `region` in the next buffer."""
        self.turn = (self.turn + 1) % len(self.addresses)
        strides = dense_strides(lengths(region), operand.element)
        self.view = View(self.addresses[self.turn], strides, region)
        return self.view


@dataclass(slots=True)
class Emitter:
    """Collects the instructions of one core in program order.

    `homes`: address of every tensor that lives on chip; `ddr`: flat DDR address of every other one (by root
    id); `root`: owner of a tensor's bytes; DDR below `ddr_base` is constant and needs no tokens.
    """

    homes: Mapping[int, int]
    ddr: Mapping[int, int]
    root: Sequence[int]
    ddr_base: int
    reuse: bool
    instrs: list[Instr] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    tokens: Tokens = field(default_factory=Tokens)

    def job(self, placed: Placed) -> None:
        """Emit all tiles of a job, in the plan's loop order."""
        job, plan = placed.job, placed.plan
        slots = [_Slot(a) for a in placed.buffers]
        for box in boxes(job.extent, plan.tile, plan.order):
            if job.copy:
                self._copy(job, box, slots[0])
            else:
                self._tile(job, box, slots)

    def code(self) -> Code:
        """The encoded program."""
        code = encode(self.instrs)
        if self.instrs:
            code.view(HEADER_DTYPE)[:, 0]["wait"] = np.array(self.waits, dtype=np.uint32)
        return code

    def _home(self, operand: Operand, region: Box) -> View | None:
        """The region inside the whole tensor on chip, if it lives there."""
        at = self.homes.get(self.root[operand.tensor])
        return None if at is None else View(at + operand.offset(region), operand.strides, region)

    def _tile(self, job: Job, box: Box, slots: Sequence[_Slot]) -> None:
        views = tuple(self._view(job, k, box, slots[k]) for k in range(len(job.operands)))
        spans = [v.extent(o.element) for v, o in zip(views, job.operands, strict=True)]
        for instr in job.emit(box, views):
            self._add(instr, self.tokens.issue(instr.ENGINE, reads=spans[:-1], writes=spans[-1:]))
        y = job.operands[-1]
        if slots[-1].addresses:
            self._store(job, y, views[-1])

    def _view(self, job: Job, k: int, box: Box, slot: _Slot) -> View:
        """Where an operand's region is on chip; loads it unless it is there."""
        operand = job.operands[k]
        region = operand.region(box)
        home = self._home(operand, region)
        if home:
            return home
        if operand.output:
            return slot.next(operand, region)
        if self.reuse and slot.view and slot.view.region == region:
            return slot.view
        view = slot.next(operand, region)
        self._load(job, operand, view)
        return view

    def _copy(self, job: Job, box: Box, slot: _Slot) -> None:
        """A tile that LOAD and STORE move; the layout engine only where both sides are on chip."""
        x, y = job.operands
        source, target = self._home(x, x.region(box)), self._home(y, y.region(box))
        if source and target:
            spans = source.extent(x.element), target.extent(y.element)
            for instr in job.emit(box, (source, target)):
                self._add(instr, self.tokens.issue(instr.ENGINE, reads=spans[:1], writes=spans[1:]))
            return
        if source:
            self._store(job, y, _seen_as(source, y.region(box)))
            return
        if target:
            self._load(job, x, _seen_as(target, x.region(box)))
            return
        view = slot.next(x, x.region(box))
        self._load(job, x, view)
        self._store(job, y, _seen_as(view, y.region(box)))

    def _load(self, job: Job, operand: Operand, view: View) -> None:
        for instr in loads(job.index, operand, self.ddr[self.root[operand.tensor]], view):
            far, near = _spans(instr)
            reads = () if far[0] < self.ddr_base else (far,)
            self._add(instr, self.tokens.issue(instr.ENGINE, ddr_reads=reads, writes=(near,)))

    def _store(self, job: Job, operand: Operand, view: View) -> None:
        for instr in stores(job.index, operand, self.ddr[self.root[operand.tensor]], view):
            far, near = _spans(instr)
            self._add(instr, self.tokens.issue(instr.ENGINE, reads=(near,), ddr_writes=(far,)))

    def _add(self, instr: Instr, wait: Wait) -> None:
        self.instrs.append(instr)
        self.waits.append(wait)


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
