"""What each optimisation level buys: DDR bytes, copies, overlap; measured on instructions and the timing
model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.chains import Net, random_net
from compiler.scheduling import chip_of, executed, inputs_of, instrs_of, same, scheduled
from openbpu.arch.isa import ConvTile, Engine, Load, Store
from openbpu.arch.march import March
from openbpu.arch.program import Program, Space
from openbpu.compiler.schedule import FASTEST
from openbpu.compiler.schedule.search import fusion, segment_planner
from openbpu.simulator.timing.simulate import simulate
from simulator.build import segment_of

MIB = 1 << 20


def plain() -> Program:
    net = Net()
    x = net.b.input((1, 56, 56, 64))
    for _ in range(4):
        x = net.conv(x, 64)
    return net.program([x])


def residual() -> Program:
    net = Net()
    x = net.conv(net.b.input((1, 56, 56, 64)), 64)
    for _ in range(3):
        x = net.lut(net.conv(net.conv(x, 128, 1), 64, residual=x))
    return net.program([net.mean(x)])


def split() -> Program:
    """What YOLO networks are made of: halves of a tensor, a bottleneck on one, all concatenated."""
    net = Net()
    x = net.conv(net.b.input((1, 40, 40, 32)), 64, 1)
    left, right = net.slice(x, 0, 32), net.slice(x, 32, 64)
    deeper = net.sum(net.conv(net.conv(right, 32), 32), right)
    return net.program([net.conv(net.concat([left, right, deeper]), 64, 1)])


NETS: dict[str, Callable[[], Program]] = {"plain": plain, "residual": residual, "split": split}


def moved(program: Program, kind: type[Load | Store]) -> int:
    return sum(i.row_bytes * int(np.prod(i.counts)) for i in instrs_of(program) if isinstance(i, kind))


def least(program: Program) -> tuple[int, int]:
    """Bytes of inputs and constants, and of outputs: what no schedule can avoid."""
    constants = sum(t.nbytes for t in program.tensors if t.space is Space.CONST)
    given = sum(program.tensors[t].nbytes for t in program.inputs)
    return constants + given, sum(program.tensors[t].nbytes for t in program.outputs)


def cycles(program: Program, march: March) -> int:
    return simulate(program, segment_of(program), march).cycles


@pytest.mark.parametrize("name", sorted(NETS))
def test_a_network_that_fits_touches_ddr_for_inputs_weights_and_outputs_only(name: str) -> None:
    program = scheduled(NETS[name](), chip_of(4 * MIB), 2)
    loads, stores = least(program)
    assert moved(program, Store) == stores
    assert moved(program, Load) <= loads * 1.15  # rows that two tiles of the input share


@pytest.mark.parametrize("chip_bytes", [MIB // 4, MIB, 4 * MIB])
@pytest.mark.parametrize("name", sorted(NETS))
def test_each_level_is_faster_than_the_one_below(name: str, chip_bytes: int) -> None:
    march = chip_of(chip_bytes)
    times = [cycles(scheduled(NETS[name](), march, opt), march) for opt in (0, 1, 2)]
    assert times[0] > times[1]
    assert times[2] < times[1] * 1.01


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "residual")) for n in sorted(NETS)]
)
def test_half_the_memory_never_means_less_traffic(name: str) -> None:
    traffic = [
        sum(moved(scheduled(NETS[name](), chip_of(size), 2), kind) for kind in (Load, Store))
        for size in (MIB // 4, MIB // 2, MIB, 4 * MIB)
    ]
    assert traffic == sorted(traffic, reverse=True)


def test_concats_and_slices_of_a_split_network_copy_nothing() -> None:
    program = split()
    kinds = [type(op).__name__ for op in segment_of(program).operators]
    copies = {i for i, kind in enumerate(kinds) if kind in ("Move", "Concat")}
    copied = [
        sum(i.operator in copies for i in instrs_of(scheduled(program, chip_of(4 * MIB), opt)))
        for opt in (1, 2)
    ]
    assert copied[0] > 0
    assert copied[1] == 0


def wide() -> Program:
    """conv → 400 kB → conv → 800 kB → pool: what lies between does not fit a quarter of a mebibyte."""
    net = Net()
    x = net.b.input((1, 112, 112, 16))
    return net.program([net.pool(net.conv(net.conv(x, 32), 64), 3, 2)])


def test_a_tensor_too_large_for_the_chip_stays_on_it_stripe_by_stripe() -> None:
    program = wide()
    coded = scheduled(program, chip_of(MIB // 4), 2)
    operators = segment_of(coded).operators
    assert moved(coded, Store) == least(program)[1]
    assert [coded.tensors[op.outputs[0]].space for op in operators[:2]] == [Space.CHIP] * 2
    convs = [i for i in instrs_of(coded) if isinstance(i, ConvTile)]
    assert [sum(i.out_h for i in convs if i.operator == k) for k in (0, 1)] == [112, 112]  # no row twice
    inputs = inputs_of(program, 2)
    assert same(executed(coded, inputs, 5), executed(scheduled(program, chip_of(MIB), 0), inputs))


def test_running_depth_first_saves_time_and_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    march = chip_of(MIB // 4)
    grouped = scheduled(wide(), march, 2)
    monkeypatch.setattr(segment_planner, "fuse_jobs", lambda jobs, *_: list(jobs))
    layered = scheduled(wide(), march, 2)
    assert cycles(grouped, march) < cycles(layered, march) * 0.8
    assert moved(grouped, Load) + moved(grouped, Store) < (moved(layered, Load) + moved(layered, Store)) / 3


def test_jobs_that_no_plan_fits_together_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    march = chip_of(MIB // 16)
    net = Net()
    program = net.program([net.pool(net.conv(net.conv(net.b.input((1, 28, 28, 16)), 32), 64), 3, 2)])
    monkeypatch.setattr(fusion, "search_stripes", lambda *_: None)
    unplanned = scheduled(program, march, 2)
    monkeypatch.setattr(segment_planner, "fuse_jobs", lambda jobs, *_: list(jobs))
    assert instrs_of(unplanned) == instrs_of(scheduled(program, march, 2))


def heavy() -> Program:
    """Convolutions whose weights, like their images, are larger than a tile: either is loaded repeatedly."""
    net = Net()
    x = net.b.input((1, 28, 28, 256))
    for _ in range(3):
        x = net.conv(x, 256)
    return net.program([x])


@pytest.mark.parametrize(
    "chip_bytes", [MIB // 8, *(pytest.param(n, marks=pytest.mark.slow) for n in (MIB // 4, MIB // 2))]
)
@pytest.mark.parametrize("net", [plain, residual, split, wide, heavy])
def test_a_lower_balance_never_means_more_traffic(net: Callable[[], Program], chip_bytes: int) -> None:
    march = chip_of(chip_bytes)
    programs = [scheduled(net(), march, 2, balance=b) for b in (0, 30, 60, 90, FASTEST)]
    assert_traded(programs, march)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kib=st.sampled_from([16, 64, 1024]), opt=st.integers(0, 2))
def test_balance_trades_traffic_for_latency_on_every_drawn_network(seed: int, kib: int, opt: int) -> None:
    march = chip_of(kib << 10)
    program = random_net(seed)
    assert_traded([scheduled(program, march, opt, balance=b) for b in (0, 40, FASTEST)], march)


def assert_traded(programs: list[Program], march: March) -> None:
    """With a higher balance never fewer bytes, and never more cycles."""
    found = [simulate(p, segment_of(p), march) for p in programs]
    traffic = [timing.loaded + timing.stored for timing in found]
    assert traffic == sorted(traffic)
    times = [timing.cycles for timing in found]
    assert times == sorted(times, reverse=True)


def test_balance_trades_traffic_for_latency() -> None:
    march = chip_of(MIB // 4)
    frugal, fast = (scheduled(heavy(), march, 2, balance=b) for b in (0, FASTEST))
    assert moved(frugal, Load) < moved(fast, Load) * 0.6
    assert cycles(fast, march) < cycles(frugal, march)
    inputs = inputs_of(heavy(), 3)
    assert same(executed(frugal, inputs, 1), executed(fast, inputs))


def test_the_weights_of_the_next_layer_load_while_this_one_computes() -> None:
    net = Net()
    x = net.b.input((1, 64, 64, 128))
    for _ in range(4):
        x = net.conv(x, 128)
    march = chip_of(4 * MIB)
    program = scheduled(net.program([x]), march, 2)
    core = simulate(program, segment_of(program), march).cores[0]
    for layer in range(1, 4):
        mine = core.operator == layer
        loaded = core.end[mine & (core.engine == Engine.LOAD)].max()
        assert loaded < core.start[mine & (core.engine == Engine.TAE)].min()


def test_loads_overlap_compute_from_level_one_on() -> None:
    march = chip_of(MIB)
    core = simulate(p := scheduled(plain(), march, 1), segment_of(p), march).cores[0]
    busy = [int((core.end - core.start)[core.engine == e].sum()) for e in (Engine.LOAD, Engine.TAE)]
    assert int(core.end.max()) < sum(busy) * 0.9


def test_ddr_memory_of_dead_tensors_is_used_again() -> None:
    net = Net()
    x = net.b.input((1, 64, 64, 64))
    for _ in range(8):
        x = net.conv(x, 64, 1)
    program = net.program([x])
    levels = [scheduled(program, chip_of(MIB // 8), opt).ddr_bytes - program.ddr_bytes for opt in (0, 1)]
    assert levels[0] == 7 * (64 * 64 * 64)
    assert levels[1] == 2 * (64 * 64 * 64)


@pytest.mark.parametrize("opt", [0, 1, 2])
def test_the_same_network_gives_the_same_bytes(opt: int) -> None:
    left, right = (scheduled(split(), chip_of(MIB // 8), opt) for _ in range(2))
    assert np.array_equal(segment_of(left).code[0], segment_of(right).code[0])
    assert left.tensors == right.tensors


@pytest.mark.parametrize("name", sorted(NETS))
def test_the_levels_agree_bit_for_bit_on_networks_of_real_size(name: str) -> None:
    program = NETS[name]()
    inputs = inputs_of(program, 1)
    outputs = [
        executed(scheduled(program, chip_of(s), o), inputs, 3) for s, o in ((4 * MIB, 0), (MIB // 4, 2))
    ]
    assert same(*outputs)
