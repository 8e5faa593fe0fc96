"""Changes of a few instructions, timed in part, against the event engine run on all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.chains import random_net
from compiler.scheduling import chip_of, scheduled
from openbpu.arch import events
from openbpu.arch.isa import Code, Engine
from openbpu.arch.march import March
from openbpu.compiler import compile as compile_model
from openbpu.simulator.timing import Queues, costs_of
from simulator.build import segment_of
from witness.builder import GraphBuilder
from witness.emit import EMITTERS


def drawn(
    seed: int, cores: int, chip_bytes: int
) -> tuple[Sequence[Code], tuple[np.ndarray, np.ndarray], March]:
    """The code of a random network, and its costs by position."""
    march = chip_of(chip_bytes)
    program = scheduled(random_net(seed), march, 2, cores=cores)
    segment = segment_of(program)
    costs = costs_of(segment.code, segment.operators, program.tensors, march, "here")
    return segment.code, Queues(segment.code, march, "here").by_position(costs), march


def check(queues: events.Queues, costs: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> None:
    what_if = events.WhatIf(queues, costs)
    assert what_if.cycles == cycles(queues, costs)
    n = len(queues.order)
    for number in range(12):
        size = min(n, (1, 2, 3, 5, n // 2)[number % 5])
        low = int(rng.integers(0, n - size + 1))
        positions = np.sort(rng.choice(n, size, replace=False)) if number % 2 else np.arange(low, low + size)
        factor = rng.choice([0.0, 0.5, 1.0, 1.01, 4.0])
        other = tuple([np.floor(c * factor).astype(np.int64) for c in costs])
        mixed = tuple([c.copy() for c in costs])
        for into, new in zip(mixed, other, strict=True):
            into[positions] = new[positions]
        assert what_if.cycles_with(other, positions) == cycles(queues, mixed)  # type: ignore[arg-type]
    assert what_if.cycles_with(costs, np.arange(n)) == what_if.cycles
    assert what_if.cycles_with(costs, np.arange(0)) == what_if.cycles


def cycles(queues: events.Queues, costs: tuple[np.ndarray, np.ndarray]) -> int:
    """The cycles of a whole run."""
    plan = np.zeros(events.PLANNED, dtype=np.int64)
    tables = queues.tables(costs, np.zeros(0, np.int64), plan)
    queues.fill_in(tables, 1)
    end = tables[12]
    assert int(plan[events.TOTAL]) == int((end + queues.fill).max())
    return int(plan[events.TOTAL])


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program is too small for the compiled engine."""
    monkeypatch.setattr("openbpu.simulator.timing.queues._SMALL", -1)


@pytest.mark.usefixtures("compiled")
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1 << 30), cores=st.sampled_from([1, 1, 2, 4]), chip=st.sampled_from([8192, 1 << 17])
)
@pytest.mark.parametrize("engine", [events.Queues, Queues], ids=["Python", "compiled"])
def test_a_change_takes_the_cycles_of_a_whole_run(
    engine: type[events.Queues], seed: int, cores: int, chip: int
) -> None:
    code, costs, march = drawn(seed, cores, chip)
    check(engine(code, march, "here"), costs, np.random.default_rng(seed))


@pytest.mark.parametrize("many", [1, 1 << 14])
def test_few_marks_serve_as_well(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openbpu.arch.events.what_if._MARKS_BYTES", many)
    for seed in range(4):
        code, costs, march = drawn(seed, 1, 8192)
        check(events.Queues(code, march, "here"), costs, np.random.default_rng(seed))


@pytest.mark.parametrize(("channels", "chip"), [(16, 1 << 20), (32, 1 << 16)])
def test_a_change_in_a_long_chain_is_timed_in_part(channels: int, chip: int) -> None:
    """Where loads run far ahead of what reads them, and where they wait for its memory."""
    b = GraphBuilder()
    x = b.quantized_input((1, channels, 7, 7))
    for _ in range(60):
        x = b.qdq(EMITTERS["Conv"](b, x, channels=channels, pads=1)[0])
    b.output(x)
    march = chip_of(chip)
    program = compile_model(b.model(), march=march)
    segment = segment_of(program)
    queues = events.Queues(segment.code, march, "here")
    costs = costs_of(segment.code, segment.operators, program.tensors, march, "here")
    what_if = events.WhatIf(queues, queues.by_position(costs))
    first = int(queues.first[Engine.TAE])
    started = what_if.tables[11]
    started[:] = -1
    nothing = np.zeros_like(what_if.costs[0])
    assert what_if.cycles_with((nothing, nothing), np.array([first + 30])) < what_if.cycles
    assert (started >= 0).sum() < len(started) / 3
