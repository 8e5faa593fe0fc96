"""Facts about exact execution: every instruction computes its operator's formula, in every legal order."""

from typing import Any

import numpy as np
import pytest

from openbpu.arch.dtypes import DType
from openbpu.arch.program import OPERATORS, Conv, Operator, Program, Reduce
from openbpu.simulator.exact import ExactSegment
from simulator.build import Build, one_operator_program, random_tensor, segment_of
from simulator.oracle import Oracle
from simulator.random_operators import CASES, program_of
from simulator.tiles import TILES, tiled

Inputs = dict[int, Any]


def made(kind: str, seed: int) -> tuple[Program, Inputs]:
    program, inputs = program_of(kind, seed)
    return tiled(program), inputs


def run(program: Program, inputs: Inputs, order_seed: int | None = None) -> dict[int, Any]:
    return ExactSegment(program, segment_of(program), order_seed=order_seed).run(inputs)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", CASES)
def test_instruction_computes_its_operator(kind: str, seed: int) -> None:
    program, inputs = made(kind, 1000 + seed)
    segment = ExactSegment(program, segment_of(program))
    got = segment.run(inputs)
    oracle = Oracle(program, segment_of(program))
    for i, wanted in oracle.run(inputs).items():
        np.testing.assert_array_equal(got[i], wanted)
        assert got[i].dtype == wanted.dtype
        assert got[i].shape == wanted.shape
    assert segment.saturations == oracle.saturations


def test_every_operator_is_tested() -> None:
    assert set(TILES) == set(OPERATORS)
    assert len(CASES) == len(OPERATORS)


@pytest.mark.parametrize("order_seed", [0, 1, 2])
@pytest.mark.parametrize("kind", ["conv", "concat", "pad"])
def test_any_order_that_the_tokens_allow_gives_the_same_bits(kind: str, order_seed: int) -> None:
    program, inputs = made(kind, 7)
    first, again = run(program, inputs), run(program, inputs, order_seed)
    assert {i: v.tobytes() for i, v in first.items()} == {i: v.tobytes() for i, v in again.items()}


def saturating(kind: type[Operator]) -> tuple[Program, Inputs, list[int]]:
    """A program whose sums are 3·2^30, −3·2^30 and 0, its inputs, and its result."""
    b = Build()
    if kind is Reduce:
        x, y = b.input((1, 3, 3), DType.INT32), b.tensor((1, 3), DType.INT32)
        fields = {"lo": -(2**31), "hi": 2**31 - 1}
        op: Operator = Reduce(
            inputs=(x,), outputs=(y,), fn="sum", shape=(1, 3, 3), mult=1 << 30, shift=30, **fields
        )
        values = {x: np.array([[[1, -1, 0]] * 3], np.int32) << 30}
    else:
        x, y = b.input((1, 1, 1, 3), DType.INT16), b.tensor((1, 1, 1, 3), DType.INT32)
        weight = np.array([[-32768] * 3, [32767] * 3, [0] * 3], np.int16).reshape(3, 1, 1, 3)
        op = Conv(
            inputs=(x,),
            outputs=(y,),
            weight_id=b.const(weight),
            params_id=b.const(np.zeros((3, 4), np.int32)),
            x_shape=(1, 1, 1, 3),
            y_shape=(1, 1, 1, 3),
            kernel=(1, 1),
            raw=True,
            wide=True,
        )
        values = {x: np.full((1, 1, 1, 3), -32768, np.int16)}
    return tiled(one_operator_program(b, op)), values, [2**31 - 1, -(2**31), 0]


@pytest.mark.parametrize("kind", [Conv, Reduce])
def test_sum_saturates_once_and_is_counted_per_run(kind: type[Operator]) -> None:
    program, inputs, wanted = saturating(kind)
    segment = ExactSegment(program, segment_of(program))
    for _ in range(2):
        (got,) = segment.run(inputs).values()
        assert got.reshape(-1).tolist() == wanted
        assert segment.saturations == 2


def test_runs_do_not_share_memory() -> None:
    program, inputs = made("conv", 3)
    segment = ExactSegment(program, segment_of(program))
    first = segment.run(inputs)
    segment.run({i: np.zeros_like(v) for i, v in inputs.items()})
    assert all(np.array_equal(segment.run(inputs)[i], v) for i, v in first.items())


def test_output_may_be_a_view_of_an_input() -> None:
    b = Build()
    x = b.input((2, 6))
    view = b.view(x, (3, 4))
    program = tiled(b.program((view,)))
    data = random_tensor(np.random.default_rng(0), (2, 6), DType.INT8)
    assert run(program, {x: data})[view].tolist() == data.reshape(3, 4).tolist()
