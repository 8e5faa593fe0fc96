"""Groups to instructions: every step runs each job's stripe, windows move on in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from openbpu.compiler.schedule.codegen.emitter import Emitter, Step, tile_buffer
from openbpu.compiler.schedule.jobs.moves import move_tiles
from openbpu.compiler.schedule.memory.residency import Home
from openbpu.compiler.schedule.problem.index_maps import Box, Ints, Span
from openbpu.compiler.schedule.problem.job import Job, View
from openbpu.compiler.schedule.tiling.fusion_groups import Group, Link
from openbpu.compiler.schedule.tiling.stripes import GroupPlan


@dataclass(frozen=True, slots=True)
class PlacedGroup:
    """A group ready to emit: its plan and the homes of tensors outside it, by root."""

    group: Group
    plan: GroupPlan
    homes: Mapping[int, Home]


@dataclass(slots=True)
class _Window:
    """The rows of a link that are on chip: two buffers, `rows` in the one in use."""

    link: Link
    addresses: Ints
    turn: int = 0
    rows: Span = (0, 0)

    def home(self) -> Home:
        """The link as if it lived on chip as a whole: rows in the window are at their true addresses."""
        address = self.addresses[self.turn] - self.rows[0] * self.link.row_bytes
        return Home(self.link.root, 0, 0, 0, 0, stored=False, loaded=False, address=address)


@dataclass(slots=True)
class _Stage:
    """One job of a group: the addresses of its buffers, used in turn, and what they hold."""

    job: Job
    addresses: Mapping[int, Ints]  # by operand
    now: list[View | None]
    turns: list[int]
    loaded: list[View | None]

    def step(self, box: Box) -> Step:
        """The buffers of this box."""
        for k, addresses in self.addresses.items():
            operand = self.job.operands[k]
            region, view = operand.region(box), self.now[k]
            if view is None or view.region != region:
                self.now[k] = tile_buffer(addresses[self.turns[k] % len(addresses)], operand, region)
                self.turns[k] += 1
        return tuple(self.now)


def emit_group(emitter: Emitter, placed: PlacedGroup) -> None:
    """Emit all steps of a group."""
    group, plan = placed.group, placed.plan
    stages = [_stage(position, job, plan) for position, job in enumerate(group.jobs)]
    windows = {root: _Window(link, plan.addresses[-1, root]) for root, link in group.links.items()}
    for step in plan.steps:
        for stage, box in zip(stages, step.boxes, strict=True):
            if box is None:
                continue
            job = stage.job
            window = windows.get(job.operands[-1].root)
            if window:
                _advance(emitter, job, window, step.windows[window.link.root])
            here = {**placed.homes, **{root: w.home() for root, w in windows.items()}}
            homes = tuple([here.get(o.root) for o in job.operands])
            buffers = stage.step(box)
            if job.copy:
                emitter.copy_tile(job, homes, box, buffers[0])
            else:
                emitter.tile(job, homes, box, buffers, stage.loaded)


def _stage(position: int, job: Job, plan: GroupPlan) -> _Stage:
    mine = {k: addresses for (p, k), addresses in plan.addresses.items() if p == position}
    count = len(job.operands)
    return _Stage(job, mine, [None] * count, [0] * count, [None] * count)


def _advance(emitter: Emitter, job: Job, window: _Window, rows: Span) -> None:
    """Go on to the other buffer; the rows that are still needed come along, by the layout engine."""
    size, had, before = window.link.row_bytes, window.rows, window.home()
    window.turn, window.rows = 1 - window.turn, rows
    if not rows[0] < had[1]:
        return
    kept = (had[1] - rows[0]) * size
    source, target = (h.address + rows[0] * size for h in (before, window.home()))
    for instr in move_tiles(job.index, 1, (source, target), (kept,), ((1,), (1,))):
        emitter.add(instr, reads=((source, source + kept),), writes=((target, target + kept),))
