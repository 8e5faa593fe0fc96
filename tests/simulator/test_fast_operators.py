"""Facts about the fast mode: every operator gives the bits of its formula, with every family of kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openbpu.arch.program import OPERATORS, Program
from openbpu.simulator.fast import FastSegment
from openbpu.simulator.fast.jit.cpu import host
from simulator.build import segment_of
from simulator.oracle import RUN, Array, Oracle
from simulator.random_operators import CASES, program_of

VECTORISED = ("conv", "matmul", "binary", "move")
"""Operators whose kernels differ from family to family; the others have one kernel for all."""

SEEDS = st.integers(0, 2**32 - 1)
SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def check(program: Program, inputs: dict[int, Array], threads: int = 1) -> None:
    segment = segment_of(program)
    oracle, fast = Oracle(program, segment), FastSegment(program, segment, threads)
    wanted, got = oracle.run(inputs), fast.run(inputs)
    for tensor_id, value in wanted.items():
        assert got[tensor_id].dtype == value.dtype
        np.testing.assert_array_equal(got[tensor_id], value)
    assert fast.saturations == oracle.saturations


@pytest.mark.parametrize("kind", CASES)
@given(seed=SEEDS)
@SETTINGS
def test_operator_equals_its_formula(kind: str, seed: int) -> None:
    check(*program_of(kind, seed))


@pytest.mark.parametrize("mode", host().modes())
@pytest.mark.parametrize("kind", VECTORISED)
@given(seed=SEEDS)
@SETTINGS
def test_every_kernel_family_gives_the_same_bits(kind: str, mode: str, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENBPU_KERNELS", mode)
        check(*program_of(kind, seed))


@pytest.mark.parametrize("kind", CASES)
@given(seed=SEEDS)
@settings(SETTINGS, max_examples=15)
def test_two_threads_give_the_same_bits(kind: str, seed: int) -> None:
    check(*program_of(kind, seed), threads=2)


def test_every_operator_is_lowered_and_has_kernels() -> None:
    from openbpu.simulator.fast.operators import PLANS

    assert set(PLANS) == set(OPERATORS)
    assert all(plan.families for plan in PLANS.values())


def test_every_operator_is_tested() -> None:
    kinds = {type(segment_of(program_of(kind, 0)[0]).operators[0]) for kind in CASES}
    assert kinds == set(OPERATORS) == set(RUN)
