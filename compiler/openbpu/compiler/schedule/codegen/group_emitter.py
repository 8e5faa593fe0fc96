"""Fusion groups to instructions: every step runs each job's stripe, windows move on in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from openbpu.arch.shapes import Ints
from openbpu.compiler.schedule.codegen.emitter import Emitter
from openbpu.compiler.schedule.codegen.tile_buffers import TileBuffers, tile_buffer
from openbpu.compiler.schedule.jobs.move import move_tiles
from openbpu.compiler.schedule.memory.residency import Residency
from openbpu.compiler.schedule.problem.index_maps import Box, Span
from openbpu.compiler.schedule.problem.job import Job, View
from openbpu.compiler.schedule.tiling.fusion_groups import FusedTensor, FusionGroup
from openbpu.compiler.schedule.tiling.stripes import GroupTiling


@dataclass(frozen=True, slots=True)
class TiledGroup:
    """A group ready to emit: how it is cut, and by root where other tensors stay on chip."""

    group: FusionGroup
    tiling: GroupTiling
    residencies: Mapping[int, Residency]


@dataclass(slots=True)
class _Window:
    """The rows of a fused tensor that are on chip: two buffers, `rows` in the one in use."""

    tensor: FusedTensor
    addresses: Ints
    turn: int = 0
    rows: Span = (0, 0)

    def residency(self) -> Residency:
        """The tensor as if all of it stayed on chip: rows in the window are at their true addresses."""
        address = self.addresses[self.turn] - self.rows[0] * self.tensor.row_bytes
        return Residency(self.tensor.root, 0, 0, 0, 0, stored=False, loaded=False, address=address)


@dataclass(slots=True)
class _Stage:
    """One job of a group: the addresses of its buffers, used in turn, and what they hold."""

    job: Job
    addresses: Mapping[int, Ints]  # by operand
    now: list[View | None]
    turns: list[int]
    loaded: list[View | None]

    def step(self, box: Box) -> TileBuffers:
        """The tile buffers for this box."""
        for k, addresses in self.addresses.items():
            operand = self.job.operands[k]
            region, view = operand.region(box), self.now[k]
            if view is None or view.region != region:
                self.now[k] = tile_buffer(addresses[self.turns[k] % len(addresses)], operand, region)
                self.turns[k] += 1
        return tuple(self.now)


def emit_group(emitter: Emitter, tiled: TiledGroup) -> None:
    """Emit all steps of a fusion group."""
    group, tiling = tiled.group, tiled.tiling
    stages = [_stage(position, job, tiling) for position, job in enumerate(group.jobs)]
    windows = {
        root: _Window(tensor, tiling.addresses[-1, writer])
        for writer, (root, tensor) in enumerate(group.fused.items())
    }
    for step in tiling.steps:
        for stage, box in zip(stages, step.boxes, strict=True):
            if box is None:
                continue
            job = stage.job
            window = windows.get(job.operands[-1].root)
            if window:
                _advance(emitter, job, window, step.windows[window.tensor.root])
            here = {**tiled.residencies, **{root: w.residency() for root, w in windows.items()}}
            residencies = tuple([here.get(o.root) for o in job.operands])
            buffers = stage.step(box)
            if job.copy:
                emitter.copy_tile(job, residencies, box, buffers[0])
            else:
                emitter.tile(job, residencies, box, buffers, stage.loaded)


def _stage(position: int, job: Job, tiling: GroupTiling) -> _Stage:
    mine = {k: addresses for (p, k), addresses in tiling.addresses.items() if p == position}
    count = len(job.operands)
    return _Stage(job, mine, [None] * count, [0] * count, [None] * count)


def _advance(emitter: Emitter, job: Job, window: _Window, rows: Span) -> None:
    """Go on to the other buffer; the rows that are still needed come along, by the layout engine."""
    size, had, before = window.tensor.row_bytes, window.rows, window.residency()
    window.turn, window.rows = 1 - window.turn, rows
    if not rows[0] < had[1]:
        return
    kept = (had[1] - rows[0]) * size
    source, target = (r.address + rows[0] * size for r in (before, window.residency()))
    for instr in move_tiles(job.index, 1, (source, target), (kept,), ((1,), (1,))):
        emitter.add(instr, reads=((source, source + kept),), writes=((target, target + kept),))
