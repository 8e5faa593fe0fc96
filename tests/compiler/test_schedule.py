"""What the scheduler writes computes the operators, bit for bit: any shape, any memory, any order of the
engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.chains import random_net
from compiler.scheduling import chip_of, executed, inputs_of, instrs_of, same, scheduled, spread
from openbpu.arch.errors import CompileError
from openbpu.arch.program import Program
from openbpu.compiler.schedule import FASTEST
from openbpu.compiler.schedule.search import core_planner, fusion, segment_planner
from openbpu.compiler.schedule.search.core_planner import CorePlan, Planner
from openbpu.compiler.schedule.tiling.fusion_groups import FusionGroup
from openbpu.compiler.schedule.tiling.stripes import search_stripes
from simulator.build import segment_of
from simulator.oracle import Oracle
from simulator.random_operators import CASES, program_of

SEEDS = st.integers(0, 2**32 - 1)
ROOMS = st.sampled_from([4 << 20, 65536, 16384, 8192, 6144, 4096])
FEW = settings(max_examples=12, deadline=None)
MORE = settings(max_examples=120, deadline=None)


EFFORTS = st.fixed_dictionaries(
    {
        "balance": st.sampled_from([FASTEST, FASTEST, 60, 0]),
        "l2m_bytes": st.sampled_from([0, 0, 4096, 1 << 20]),
        "cores": st.sampled_from([1, 1, 2, 3, 4]),
    }
)


def check(program: Program, chip_bytes: int, opt: int, seed: int, **effort: int) -> None:
    """Scheduled for this memory, the program equals the oracle in program order and in another order."""
    inputs = inputs_of(program, seed)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = Oracle(program, segment_of(program)).run(inputs)
    try:
        with spread():
            coded = scheduled(
                program, chip_of(chip_bytes, "nash-p"), opt, with_constants=seed % 3 > 0, **effort
            )
    except CompileError:
        assert chip_bytes < 65536, "an operator this small must fit"
        return
    assert same(executed(coded, inputs), expected)
    assert same(executed(coded, inputs, seed), expected)


@pytest.mark.parametrize("kind", sorted(CASES))
@FEW
@given(seed=SEEDS, chip_bytes=ROOMS, opt=st.sampled_from([0, 1, 2]), effort=EFFORTS)
def test_an_operator_computes_the_same_however_it_is_cut(
    kind: str, seed: int, chip_bytes: int, opt: int, effort: dict[str, int]
) -> None:
    check(program_of(kind, seed)[0], chip_bytes, opt, seed, **effort)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, chip_bytes=ROOMS, opt=st.sampled_from([0, 1, 2, 2, 2]), effort=EFFORTS)
def test_a_network_computes_the_same_wherever_its_tensors_live(
    seed: int, chip_bytes: int, opt: int, effort: dict[str, int]
) -> None:
    check(random_net(seed), chip_bytes, opt, seed, **effort)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(CASES))
@MORE
@given(seed=SEEDS, chip_bytes=ROOMS, opt=st.sampled_from([0, 1, 2]), effort=EFFORTS)
def test_an_operator_computes_the_same_however_it_is_cut_at_length(
    kind: str, seed: int, chip_bytes: int, opt: int, effort: dict[str, int]
) -> None:
    check(program_of(kind, seed)[0], chip_bytes, opt, seed, **effort)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(seed=SEEDS, chip_bytes=ROOMS, opt=st.sampled_from([0, 1, 2, 2, 2]), effort=EFFORTS)
def test_a_network_computes_the_same_wherever_its_tensors_live_at_length(
    seed: int, chip_bytes: int, opt: int, effort: dict[str, int]
) -> None:
    check(random_net(seed), chip_bytes, opt, seed, **effort)


@pytest.fixture
def always_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every group that fits is made, the longest first, whether or not it pays."""

    def gain(planner: Planner, placement: CorePlan, group: FusionGroup, first: int, last: int) -> int:
        live = [
            h
            for h in placement.residencies
            if h.first <= last and first <= h.last and h.root not in group.fused
        ]
        roots = frozenset(h.root for h in live)
        fits = search_stripes(group, roots, planner.policy, planner.gaps(live), planner.memo)
        return 1 + last - first if fits else 0

    monkeypatch.setattr(fusion, "_gain", gain)
    monkeypatch.setattr(CorePlan, "cost", property(lambda self: len(self.units)))


@pytest.mark.usefixtures("always_fused")
@pytest.mark.parametrize("homeless", [False, True])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=SEEDS, chip_bytes=st.sampled_from([16384, 8192, 4096]))
def test_jobs_that_run_depth_first_compute_the_same(seed: int, chip_bytes: int, homeless: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if homeless:
            patch.setattr(core_planner, "choose_residencies", lambda *_: [])
        check(random_net(seed), chip_bytes, 2, seed)


def test_groups_that_do_not_fit_leave_the_jobs_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def only_jobs(units: Sequence[core_planner.Unit], *rest: Any) -> tuple[Planner, CorePlan]:
        tried.append(any(isinstance(unit, FusionGroup) for unit in units))
        if tried[-1]:
            raise CompileError("too large")
        return core_planner.plan_units(units, *rest)

    monkeypatch.setattr(segment_planner, "plan_units", only_jobs)
    found = scheduled(random_net(13), chip_of(12 << 10), 2)
    assert any(tried)
    monkeypatch.setattr(segment_planner, "fuse_jobs", lambda jobs, *_: jobs)
    assert instrs_of(found) == instrs_of(scheduled(random_net(13), chip_of(12 << 10), 2))
