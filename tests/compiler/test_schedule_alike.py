"""What the scheduler works out for many at once: spans of boxes, steps of groups, costs of layers alike."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.chains import random_net
from compiler.scheduling import chip_of, scheduled
from openbpu.arch.march import get_march
from openbpu.compiler.schedule.jobs import Context, jobs_of
from openbpu.compiler.schedule.jobs.move import Clipped
from openbpu.compiler.schedule.memory.aliasing import Owners
from openbpu.compiler.schedule.problem.index_maps import (
    Affine,
    Along,
    Grouped,
    Indexed,
    IndexMap,
    Shifted,
    Whole,
    Window,
)
from openbpu.compiler.schedule.problem.job import Job
from openbpu.compiler.schedule.search import core_planner
from openbpu.compiler.schedule.tiling.fusion_groups import FusionGroup
from openbpu.compiler.schedule.tiling.group_steps import GroupStep, GroupSteps, steps_of
from simulator.build import segment_of
from simulator.random_operators import CASES, program_of

_TABLE = np.array([3, 1, 4, 1, 5, 9, 2, 6])
MAPS: tuple[IndexMap, ...] = (
    Whole(5),
    Along(1, -2),
    Window(0, 6, 2, 4, 3),
    Window(0, 6, 1, 4, 3, 2),
    Grouped(0, 2, 3, 4),
    Grouped(0, 2, 3, 4, 1),
    Affine(((0, 2), (1, -3)), 40),
    Affine((), 7),
    Indexed(0, _TABLE, _TABLE + 1),
    Shifted(Window(0, 9, 2, 4, 3), 0, 1),
    Clipped(0, 4, 2),
)


@pytest.mark.parametrize("axis", MAPS, ids=str)
@given(st.lists(st.tuples(*[st.integers(0, 7)] * 4), min_size=1, max_size=5))
def test_the_spans_of_many_boxes_are_those_of_each(
    axis: IndexMap, drawn: list[tuple[int, int, int, int]]
) -> None:
    boxes = [((min(a, b), max(a, b) + 1), (min(c, d), max(c, d) + 1)) for a, b, c, d in drawn]
    bounds = np.array(boxes)
    low, high = axis.spans(tuple([(bounds[:, d, 0], bounds[:, d, 1]) for d in range(2)]))
    found = np.broadcast_arrays(low, high, np.zeros(len(boxes)))[:2]
    assert list(zip(*(f.tolist() for f in found), strict=True)) == [axis.span(box) for box in boxes]


def steps_made(
    seed: int, chip_bytes: int, patch: pytest.MonkeyPatch
) -> list[tuple[FusionGroup, int, GroupSteps]]:
    """The steps of every group that is tried when a random network is scheduled, nothing resident."""
    made = []

    def noted(group: FusionGroup, dim: int, length: int) -> GroupSteps | None:
        found = steps_of(group, dim, length)
        if found is not None:
            made.append((group, dim, found))
        return found

    patch.setattr("openbpu.compiler.schedule.tiling.stripes.steps_of", noted)
    patch.setattr(core_planner, "choose_residencies", lambda *_: [])
    scheduled(random_net(seed), chip_of(chip_bytes), 2)
    return made


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 30), chip_bytes=st.sampled_from([16384, 8192, 4096]))
def test_a_window_holds_what_is_read_and_every_row_is_computed_once(seed: int, chip_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        made = steps_made(seed, chip_bytes, patch)
    for group, dim, steps in made:
        walked = steps.one_by_one(group)
        whole = [s.boxes[-1] for s in walked]
        assert [b[dim] for b in whole if b] == contiguous(0, group.jobs[-1].extent[dim], whole, dim)
        done = dict.fromkeys(group.fused, 0)
        for step in walked:
            check_step(group, step, done)


def contiguous(low: int, end: int, boxes: list[Any], dim: int) -> list[tuple[int, int]]:
    """The spans 0..a, a..b, …, up to the end, that as many boxes must have."""
    cuts = [low, *(box[dim][1] for box in boxes[:-1]), end]
    return list(pairwise(cuts))


def check_step(group: FusionGroup, step: GroupStep, done: dict[int, int]) -> None:
    """Rows are made in order, none twice, and are there when they are read; `done`: rows made, by root."""
    for job, box in zip(group.jobs, step.boxes, strict=True):
        if box is None:
            continue
        for operand in job.operands[:-1]:
            if operand.root in group.fused:
                first, last = operand.interval(operand.region(box))
                low, high = step.windows[operand.root]
                size = group.fused[operand.root].row_bytes
                assert low * size <= first
                assert last <= min(high, done[operand.root]) * size
        tensor = group.fused.get(job.operands[-1].root)
        if tensor:
            assert box[tensor.dim][0] >= done[tensor.root]
            done[tensor.root] = box[tensor.dim][1]


class Reads:
    """A job (or an operator of one) whose attributes are noted when they are read."""

    def __init__(self, of: Any, noted: set[str], path: str = "") -> None:
        self.__dict__.update(_of=of, _noted=noted, _path=path)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if name == "op":
            return Reads(found, self._noted, "op.")
        self._noted.add(self._path + name)
        return found


_OF_EVERY_JOB = {"index", "name", "extent", "steps", "operands", "engine", "caps", "copy", "op.y_shape"}


def jobs_drawn(kind: str, seed: int) -> list[Job]:
    program, _ = program_of(kind, seed)
    context = Context(program.tensors, Owners(program.tensors), {}, program.constants)
    return [job for i, op in enumerate(segment_of(program).operators) for job in jobs_of(i, op, context)]


@pytest.mark.parametrize("kind", CASES)
def test_a_cost_key_says_all_that_the_cost_of_a_tile_depends_on(kind: str) -> None:
    for seed in range(8):
        for job in jobs_drawn(kind, seed):
            if type(job).cost_details is Job.cost_details:
                assert job.cost_key != jobs_drawn(kind, seed)[0].cost_key  # like itself alone
                continue
            read: set[str] = set()
            said: set[str] = set()
            tile = np.array(job.extent)[:, None]
            assert (job.cycles(get_march("nash-e"), tile) > 0).all()
            type(job).cycles(Reads(job, read), get_march("nash-e"), tile)  # type: ignore[arg-type]
            type(job).legal(Reads(job, read), tile)  # type: ignore[arg-type]
            type(job).cost_details(Reads(job, said))  # type: ignore[arg-type]
            assert read - said <= _OF_EVERY_JOB


@pytest.mark.parametrize("kind", CASES)
def test_jobs_of_one_key_cost_the_same_whatever_their_tensors(kind: str) -> None:
    left, right = jobs_drawn(kind, 3), jobs_drawn(kind, 3)
    for a, b in zip(left, right, strict=True):
        if type(a).cost_details is not Job.cost_details and "Indexed" not in str(a.operands):
            assert a.cost_key == b.cost_key
