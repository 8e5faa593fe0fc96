"""Facts about the timing rules: cycles follow from geometry, for candidates and for encoded instructions."""

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbpu.arch import isa
from openbpu.arch.definition.boxes import runs, volume
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import HbmError, MarchError
from openbpu.arch.isa import Engine
from openbpu.arch.march import get_march, march_names, with_values
from openbpu.arch.operators.ranking import top_k_cycles
from openbpu.arch.program import Operator, Tensor
from openbpu.arch.timing import (
    conv_cycles,
    cycles,
    elementwise_cycles,
    fill_cycles,
    instruction_costs,
    lut_cycles,
    matmul_cycles,
    memory_cycles,
    move_cycles,
    passes,
    pool_cycles,
    reduce_cycles,
    resize_cycles,
    row_cycles,
    vpu_cycles,
)
from simulator.build import segment_of
from simulator.random_operators import CASES, program_of
from simulator.tiles import tiled

# 8 × 16 channels × (2 × 4) pixels, and no other cost than the array's.
ARRAY = with_values(
    get_march("nash-e"),
    {
        "tae.input_lanes": 8,
        "tae.output_lanes": 16,
        "tae.pixel_rows": 2,
        "tae.pixel_cols": 4,
        "tae.depthwise_lanes": 256,
        "tae.requant_lanes": 1 << 20,
        "tae.raw_lanes": 1 << 20,
        "tae.weight_bytes_per_cycle": 1 << 20,
        "tae.vector_bytes_per_cycle": 1 << 20,
        "tae.stall_permille": 0,
        "tae.matrix_ns": 0,
        "tae.issue_cycles": 0,
    },
)


@pytest.mark.parametrize(
    ("out", "group", "taps", "expected"),
    [
        ((2, 4, 16), (8, 16), (1, 1), 1),  # the array, filled once
        ((4, 8, 32), (16, 32), (3, 3), 4 * 2 * 2 * 9),  # full in every direction
        ((3, 5, 17), (9, 17), (1, 1), 4 * 2 * 2),  # one too many in every direction
        ((1, 1, 16), (8, 16), (1, 1), 1),  # one pixel takes a block
        ((2, 4, 16), (3, 16), (7, 7), 7 * 3),  # rows of 21 fill the lanes: 3 steps, not 7
        ((2, 4, 64), (1, 1), (3, 3), 2 * 9),  # depthwise: 256 products at a time
        ((2, 4, 32), (4, 4), (3, 3), 4 * 9),  # 8 groups of 4: two share the 8 input lanes
        ((2, 4, 32), (16, 16), (1, 1), 2 * 2),  # groups larger than the array
    ],
)
def test_conv_cycles_are_blocks_times_steps(
    out: tuple[int, int, int], group: tuple[int, int], taps: tuple[int, int], expected: int
) -> None:
    assert conv_cycles(ARRAY, out, group, taps) == expected


@pytest.mark.parametrize(
    ("m", "n", "k", "expected"), [(8, 16, 8, 1), (9, 17, 9, 8), (1, 16, 800, 100), (800, 16, 8, 100)]
)
def test_matmul_cycles_are_blocks_times_steps(m: int, n: int, k: int, expected: int) -> None:
    assert matmul_cycles(ARRAY, m=m, n=n, k=k) == expected


def test_sixteen_bits_take_more_passes() -> None:
    march = get_march("nash-e")
    assert passes(march, DType.INT8, DType.INT8) == 1
    assert passes(march, DType.INT16, DType.INT8) == march.tae.passes_int16_int8
    assert passes(march, DType.INT8, DType.INT16) == march.tae.passes_int8_int16


def test_results_weights_and_stalls_bound_a_tile() -> None:
    out, group, taps = (8, 16, 64), (8, 64), (1, 1)
    base = conv_cycles(ARRAY, out, group, taps)
    assert conv_cycles(with_values(ARRAY, {"tae.stall_permille": 500}), out, group, taps) == base * 3 // 2
    assert conv_cycles(with_values(ARRAY, {"tae.requant_lanes": 4}), out, group, taps) == 8 * 16 * 64 // 4
    assert conv_cycles(with_values(ARRAY, {"tae.weight_bytes_per_cycle": 1}), out, group, taps) == 512
    assert conv_cycles(with_values(ARRAY, {"tae.issue_cycles": 9}), out, group, taps) == base + 9


def test_accumulators_that_leave_as_they_are_leave_slowly() -> None:
    march = with_values(ARRAY, {"tae.raw_lanes": 2})
    assert conv_cycles(march, (4, 4, 16), (8, 16), (1, 1)) == 2
    assert conv_cycles(march, (4, 4, 16), (8, 16), (1, 1), raw=1) == 128
    assert matmul_cycles(march, m=16, n=16, k=8, raw=1) == 128


@pytest.mark.parametrize("clock_hz", [1_000_000_000, 1_500_000_000])
def test_a_matrix_becomes_weights_in_a_fixed_time(clock_hz: int) -> None:
    clocked = with_values(ARRAY, {"chip.clock_hz": clock_hz})
    turning = with_values(clocked, {"tae.matrix_ns": 100})
    for m, n, k in ((8, 16, 8), (800, 64, 64)):
        extra = matmul_cycles(turning, m=m, n=n, k=k) - matmul_cycles(clocked, m=m, n=n, k=k)
        assert extra == clock_hz // 10_000_000
    out, group, taps = (2, 4, 16), (8, 16), (1, 1)
    assert conv_cycles(turning, out, group, taps) == conv_cycles(clocked, out, group, taps)


def test_weights_that_serve_one_pixel_set_the_pace() -> None:
    march = with_values(ARRAY, {"tae.vector_bytes_per_cycle": 4})
    assert conv_cycles(march, (1, 1, 16), (8, 16), (1, 1)) == 8 * 16 // 4
    assert conv_cycles(march, (1, 2, 16), (8, 16), (1, 1)) == 1
    assert matmul_cycles(march, m=1, n=16, k=800) == 800 * 16 // 4


def test_residual_is_read_at_the_rate_results_are_written() -> None:
    march = with_values(ARRAY, {"tae.requant_lanes": 1})
    assert conv_cycles(march, (4, 4, 16), (8, 16), (1, 1), reads=2) == 2 * 256


def test_run_that_ends_inside_a_vector_wastes_the_rest() -> None:
    march = with_values(get_march("nash-e"), {"vae.lanes_int8": 64, "vae.issue_cycles": 0})
    assert elementwise_cycles(march, rows=10, run=64, bits=8) == 10
    assert elementwise_cycles(march, rows=10, run=65, bits=8) == 20


def test_short_bursts_cost_whole_bursts() -> None:
    march = get_march("nash-e")
    burst = march.ddr.burst_bytes
    long = memory_cycles(march, rows=1, run=64 * burst)
    assert memory_cycles(march, rows=64, run=1) == long + 63 * march.ddr.row_cycles
    assert memory_cycles(march, rows=1, run=burst, offset=1) == memory_cycles(march, rows=1, run=2 * burst)


def test_long_transfer_runs_at_the_stated_bandwidth() -> None:
    for march in map(get_march, march_names()):
        size = 1 << 24
        seconds = memory_cycles(march, rows=1, run=size) / march.clock_hz
        assert size / seconds == pytest.approx(march.ddr.bytes_per_second, rel=1e-3)


def test_march_without_vpu_refuses_its_instructions() -> None:
    with pytest.raises(MarchError, match="bayes-e: a VPU instruction must be absent"):
        vpu_cycles(get_march("bayes-e"), rows=1, run=8)


def test_march_without_spu_refuses_its_instructions() -> None:
    with pytest.raises(MarchError, match="nash-b: an SPU instruction must be absent"):
        top_k_cycles(get_march("nash-b"), rows=1, r=8, k=2)
    spu = get_march("nash-e").spu
    wanted = spu.issue_cycles + 3 * 10 * spu.cycles_per_element
    assert top_k_cycles(get_march("nash-e"), rows=3, r=8, k=2) == wanted


@pytest.mark.parametrize("name", march_names())
def test_the_spu_is_among_the_engines_of_the_marches_that_say_its_time(name: str) -> None:
    march = get_march(name)
    assert (Engine.SPU in march.engines) is (march.spu.cycles_per_element > 0)


def test_move_goes_by_elements_where_runs_are_short() -> None:
    march = with_values(
        get_march("nash-e"),
        {"trans.issue_cycles": 0, "trans.bytes_per_cycle": 64, "trans.elements_per_cycle": 8},
    )
    assert move_cycles(march, rows=100, run=64, element=1) == 100
    assert move_cycles(march, rows=100, run=1, element=1) == 13


size = st.integers(1, 500)
RULES: dict[str, tuple[Any, list[str]]] = {
    "matmul": (matmul_cycles, ["m", "n", "k"]),
    "elementwise": (elementwise_cycles, ["rows", "run", "bits"]),
    "lut": (lut_cycles, ["rows", "run", "bits"]),
    "reduce": (reduce_cycles, ["rows", "run", "outputs", "bits"]),
    "pool": (pool_cycles, ["out_h", "out_w", "channels", "taps", "bits"]),
    "resize": (resize_cycles, ["out_h", "out_w", "channels"]),
    "move": (move_cycles, ["rows", "run", "element"]),
    "vpu": (vpu_cycles, ["rows", "run"]),
    "memory": (memory_cycles, ["rows", "run", "offset"]),
    "softmax": (lambda march, **kw: row_cycles(march, norm=False, **kw), ["rows", "length"]),
}


@given(rule=st.sampled_from(sorted(RULES)), values=st.lists(st.tuples(*[size] * 5), min_size=1, max_size=5))
def test_many_candidates_cost_what_each_costs(rule: str, values: list[tuple[int, ...]]) -> None:
    function, names = RULES[rule]
    march = get_march("nash-e")
    columns = {name: np.array([v[i] for v in values]) for i, name in enumerate(names)}
    one_by_one = [function(march, **{name: v[i] for i, name in enumerate(names)}) for v in values]
    assert function(march, **columns).tolist() == one_by_one
    assert all(isinstance(v, int) and v > 0 for v in one_by_one)


@given(values=st.lists(st.tuples(*[size] * 7), min_size=1, max_size=5))
def test_many_conv_candidates_cost_what_each_costs(values: list[tuple[int, ...]]) -> None:
    march = get_march("bayes-e")
    h, w, c, cin, cout, kh, kw = np.array(values).T
    one_by_one = [conv_cycles(march, v[:3], v[3:5], v[5:]) for v in values]
    assert conv_cycles(march, (h, w, c), (cin, cout), (kh, kw)).tolist() == one_by_one
    assert all(isinstance(v, int) and v > 0 for v in one_by_one)


@given(values=st.tuples(*[st.integers(1, 200)] * 5), axis=st.integers(0, 2))
def test_a_larger_tile_never_costs_less(values: tuple[int, ...], axis: int) -> None:
    march = with_values(
        get_march("nash-e"), {"tae.vector_bytes_per_cycle": 1 << 20}
    )  # one pixel: its own rule
    out, group = list(values[:3]), (values[3], 300)
    small = conv_cycles(march, tuple(out), group, (3, 3))
    out[axis] += 1
    assert conv_cycles(march, tuple(out), group, (3, 3)) >= small


@pytest.mark.parametrize(
    ("counts", "strides", "sizes", "expected"),
    [
        ((1, 2, 3, 4), [(24, 12, 4, 1)], [1], (1, 24)),  # dense
        ((1, 2, 3, 4), [(48, 24, 8, 2)], [2], (1, 24)),
        ((1, 2, 3, 4), [(99, 16, 5, 1)], [1], (6, 4)),  # a gap behind every row
        ((5, 1, 1, 4), [(4, 77, 99, 1)], [1], (1, 20)),  # axes of one element do not matter
        ((2, 3, 4, 5), [(60, 20, 5, 1), (0, 0, 0, 1)], [1, 1], (24, 5)),  # broadcast over rows
        ((2, 3, 4, 5), [(60, 20, 5, 1), (0, 0, 0, 0)], [1, 1], (1, 120)),  # one element for all
        ((2, 3, 4, 5), [(60, 20, 5, 1), (3, 1, 0, 0)], [1, 1], (6, 20)),
        ((4, 3), [(1, 4)], [1], (12, 1)),  # a transpose
        ((3,), [(-1,)], [1], (3, 1)),  # backwards
        ((1, 1), [(0, 0)], [4], (1, 1)),
    ],
)
def test_runs_are_the_longest_stretch_all_operands_cross(
    counts: tuple[int, ...], strides: list[tuple[int, ...]], sizes: list[int], expected: tuple[int, int]
) -> None:
    rows, run = runs(np.array([counts]), [np.array([s]) for s in strides], [np.array([n]) for n in sizes])
    assert (int(rows[0]), int(run[0])) == expected


@given(
    counts=st.tuples(*[st.integers(1, 4)] * 4),
    strides=st.tuples(*[st.integers(0, 30)] * 4),
    size=st.integers(1, 4),
)
def test_runs_times_rows_is_the_box(counts: tuple[int, ...], strides: tuple[int, ...], size: int) -> None:
    rows, run = runs(np.array([counts]), [np.array([strides])], [np.array([size])])
    assert int(rows[0]) * int(run[0]) == prod(counts)


def test_box_too_large_for_any_memory_is_refused() -> None:
    with pytest.raises(HbmError, match=r"a box of 1\.84e\+19 elements"):
        volume(np.array([[2**32, 2**32]]))


def coded(kind: str, seed: int = 4) -> tuple[isa.Code, tuple[Operator, ...], tuple[Tensor, ...]]:
    program = tiled(program_of(kind, seed)[0])
    segment = segment_of(program)
    return segment.code[0], segment.operators, program.tensors


@pytest.mark.parametrize("kind", CASES)
def test_every_instruction_has_a_cost(kind: str) -> None:
    costs = instruction_costs(*coded(kind), get_march("nash-e"))
    assert (costs.cycles > 0).all()
    assert costs.cycles.dtype == np.int64
    assert (costs.cycles >= costs.memory).all()


@pytest.mark.parametrize("kind", ["conv", "matmul"])
def test_macs_are_those_of_the_operator(kind: str) -> None:
    code, operators, tensors = coded(kind)
    costs = instruction_costs(code, operators, tensors, get_march("nash-e"))
    op: Any = operators[0]
    if kind == "conv":
        taps = prod(-(-k // u) for k, u in zip(op.kernel, op.upsample, strict=True))
        expected = prod(op.y_shape) * taps * op.x_shape[3] // op.groups
    else:
        expected = max(op.a_batch, op.b_batch) * op.m * op.k * op.n
    assert costs.macs.sum() == expected
    assert set(np.flatnonzero(costs.macs)) == set(np.flatnonzero(isa.headers(code)["engine"] == Engine.TAE))


def test_cycles_is_the_column_of_costs() -> None:
    args = (*coded("conv"), get_march("bayes-e"))
    assert cycles(*args).tolist() == instruction_costs(*args).cycles.tolist()


def test_wider_elements_take_longer() -> None:
    march = get_march("nash-e")
    assert elementwise_cycles(march, rows=1, run=10_000, bits=16) > elementwise_cycles(
        march, rows=1, run=10_000, bits=8
    )
    assert lut_cycles(march, rows=1, run=10_000, bits=16) > lut_cycles(march, rows=1, run=10_000, bits=8)


def test_fill_is_that_of_the_engine() -> None:
    march = get_march("nash-e")
    fills = fill_cycles(march)
    assert fills[Engine.LOAD] == fills[Engine.STORE] == march.ddr.latency_cycles
    assert fills[Engine.TAE] == march.tae.fill_cycles
    assert fills[Engine.SPU] == march.spu.fill_cycles


@pytest.mark.parametrize(
    ("byte", "value", "message"),
    [
        (0, 0xEE, "instruction 0: opcode 0xee does not exist"),
        (1, 5, "instruction 0: Load must be on LOAD, not on engine 5"),
        (4, 200, r"instruction 0: operator 200 does not exist \(the segment has 1\)"),
    ],
)
def test_forged_header_is_refused(byte: int, value: int, message: str) -> None:
    code, operators, tensors = coded("conv")
    forged = code.copy()
    forged[0, byte] = value
    with pytest.raises(HbmError, match=message):
        instruction_costs(forged, operators, tensors, get_march("nash-e"))


def test_instruction_of_another_kind_of_operator_is_refused() -> None:
    code, _, _ = coded("conv")
    _, operators, tensors = coded("pool")
    with pytest.raises(HbmError, match="ConvTile cannot serve operator 0, a Pool"):
        instruction_costs(code, operators, tensors, get_march("nash-e"))
