"""Several cores share the work of a segment, and the L2M lies between them and DDR."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.chains import Net, random_net
from compiler.scheduling import chip_of, crossing, executed, inputs_of, same, scheduled, spread
from compiler.test_schedule_quality import plain, residual, split
from openbpu.arch.errors import SimulationError
from openbpu.arch.hbm import read_hbm, to_bytes
from openbpu.arch.isa import L2M_BASE, Instr, Load, Store, decode, encode
from openbpu.arch.march import March, get_march, with_values
from openbpu.arch.program import BpuSegment, CpuSegment, Program, Space
from openbpu.arch.shapes import dense_strides
from openbpu.compiler import compile as compile_model
from openbpu.compiler.schedule.codegen.dependencies import SharedAccessHistory
from openbpu.compiler.schedule.cores.parts import partitions_of
from openbpu.compiler.schedule.jobs import Context, jobs_of
from openbpu.compiler.schedule.problem.byte_ranges import byte_range_of, regions_outside
from openbpu.compiler.schedule.problem.index_maps import (
    Affine,
    Along,
    Box,
    Grouped,
    Indexed,
    IndexMap,
    Shifted,
    Window,
    shifted,
)
from openbpu.compiler.schedule.problem.job import Job, Operand
from openbpu.report.info import info_json
from openbpu.report.performance import performance_json
from openbpu.runtime import Session
from openbpu.simulator.timing import Timing, simulate
from simulator.build import segment_of
from simulator.random_operators import CASES, program_of

MIB = 1 << 20
MARCH = get_march("nash-p")
DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits" / "digits.q.onnx"
Tensors = dict[int, npt.NDArray[np.generic]]
SEEDS = st.integers(0, 2**32 - 1)


def deep() -> Program:
    """Small images and many channels: the weights are most of what moves."""
    net = Net()
    x = net.b.input((1, 14, 14, 512))
    for _ in range(3):
        x = net.conv(x, 512)
    return net.program([x])


def timing(program: Program, march: March = MARCH) -> Timing:
    return simulate(program, segment_of(program), march)


def ddr_bytes(program: Program, march: March = MARCH) -> int:
    found = timing(program, march)
    return found.loaded + found.stored


def codes(program: Program) -> list[list[Instr]]:
    return [decode(code) for code in segment_of(program).code]


# --- Parts of jobs ---------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_shifted_axis_needs_what_the_axis_needs_further_on(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 24))
    low = data.draw(st.integers(0, total - 1))
    length = data.draw(st.integers(1, total - low))
    named = np.array(data.draw(st.lists(st.integers(0, 30), min_size=total, max_size=total)))
    per_out = data.draw(st.integers(1, 5))
    axes: list[IndexMap] = [
        Along(0, data.draw(st.integers(0, 3))),
        Window(0, 40, *(data.draw(st.integers(a, b)) for a, b in ((1, 3), (0, 4), (0, 3), (1, 2)))),
        Grouped(0, per_out, data.draw(st.integers(1, 4)), -(-total // per_out)),
        Affine(((0, data.draw(st.sampled_from([-2, 1, 3]))),), 50),
        Indexed(0, named, named + 2),
        Shifted(Along(0), 0, 2),
    ]
    start = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(start + 1, length))
    for axis in axes:
        part = shifted(axis, 0, low, length)
        assert part.span(((start, stop),)) == axis.span(((start + low, stop + low),))
        tile = stop - start
        if start % tile == 0:  # tiles of one length start at multiples of it
            first, last = part.span(((start, stop),))
            assert last - first <= int(np.max(part.size(np.array([[tile]]))))


def all_jobs(program: Program) -> list[Job]:
    owners = [program.root(i) for i in range(len(program.tensors))]
    context = Context(program.tensors, owners, {}, program.constants)
    return [job for i, op in enumerate(segment_of(program).operators) for job in jobs_of(i, op, context)]


@pytest.mark.parametrize("kind", sorted(CASES))
@pytest.mark.parametrize("cores", [2, 4])
def test_parts_of_a_job_write_every_byte_once(kind: str, cores: int) -> None:
    for seed in range(4):
        for job in all_jobs(program_of(kind, seed)[0]):
            whole = byte_range_of(job, job.operands[-1])
            for parts in partitions_of(job, cores):
                made = [byte_range_of(p, p.operands[-1]) for p in parts if p]
                assert sum(e.count for e in made) == whole.count
                assert min(e.low for e in made) == whole.low
                assert max(e.high for e in made) == whole.high


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_what_lies_beyond_a_core_s_own_bytes_is_found_row_by_row(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    pitch = data.draw(st.integers(0, 3))
    strides = dense_strides((*shape[:-1], shape[-1] + pitch), 2)
    operand = Operand(0, 0, 4, shape, strides, 2, tuple(Along(d) for d in range(len(shape))))
    first = [data.draw(st.integers(0, n - 1)) for n in shape]
    region = tuple((lo, data.draw(st.integers(lo + 1, n))) for lo, n in zip(first, shape, strict=True))
    low = data.draw(st.integers(0, 40))
    own = (low, low + data.draw(st.integers(1, 60)))

    def elements(box: Box) -> set[int]:
        spans = [range(lo, hi) for lo, hi in box]
        return {4 + sum(i * k for i, k in zip(at, strides, strict=True)) for at in product(*spans)}

    parts = regions_outside(operand, region, own)
    outside = {a for a in elements(region) if not own[0] <= a <= a + 2 <= own[1]}
    if parts is None:
        assert outside
        return
    found = [elements(part) for part in parts]
    assert set().union(*found) == outside
    assert sum(len(f) for f in found) == len(outside)


@pytest.mark.parametrize("cut", [13, 16, 19])
def test_a_row_that_ends_outside_a_core_s_own_bytes_has_no_parts(cut: int) -> None:
    """Rows of 4 elements of 2 bytes, at 4 and at 12."""
    operand = Operand(0, 0, 4, (2, 4), dense_strides((2, 4), 2), 2, (Along(0), Along(1)))
    region = ((0, 2), (0, 4))
    assert regions_outside(operand, region, (4, cut)) is None
    assert regions_outside(operand, region, (4, 20)) == []
    assert regions_outside(operand, region, (4, 12)) == [((1, 2), (0, 4))]


# --- The L2M ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [plain, residual, split])
def test_the_l2m_takes_traffic_from_ddr_as_far_as_it_has_room(net: Callable[[], Program]) -> None:
    march = chip_of(MIB // 8, "nash-p")
    program = net()
    made = [scheduled(program, march, 2, l2m_bytes=n) for n in (0, MIB // 8, 4 * MIB)]
    traffic = [ddr_bytes(p, march) for p in made]
    assert traffic == sorted(traffic, reverse=True)
    assert traffic[2] < traffic[0] * 0.7
    assert timing(made[2], march).cycles <= timing(made[0], march).cycles
    assert timing(made[2], march).shared > 0 == timing(made[0], march).shared
    inputs = inputs_of(program, 1)
    assert same(executed(made[2], inputs, 3), executed(made[0], inputs))


def test_a_full_l2m_moves_no_tensor_between_layers_through_ddr() -> None:
    march = chip_of(MIB // 8, "nash-p")
    program = scheduled(plain(), march, 0, l2m_bytes=24 * MIB)
    spaces = {t.space for t in program.tensors}
    assert Space.L2M in spaces
    ends = sum(program.tensors[t].nbytes for t in (*program.inputs, *program.outputs))
    constants = sum(t.nbytes for t in program.tensors if t.space is Space.CONST)
    stored = timing(program, march).stored
    assert stored == sum(program.tensors[t].nbytes for t in program.outputs)
    assert ddr_bytes(program, march) < 40 * (ends + constants)
    assert read_hbm(to_bytes(program)).segments[0].l2m_bytes == segment_of(program).l2m_bytes > 0  # type: ignore[union-attr]


def test_a_transfer_to_the_l2m_takes_its_bytes_over_the_port_and_no_memory_time() -> None:
    slow = with_values(MARCH, {"chip.shared_bytes_per_cycle": 1})
    march = chip_of(MIB // 8, "nash-p")
    program = scheduled(plain(), march, 0, l2m_bytes=24 * MIB)
    near = [i for i in codes(program)[0] if isinstance(i, Load | Store) and i.ddr >= L2M_BASE]
    nbytes = sum(i.row_bytes * int(np.prod(i.counts)) for i in near)
    assert timing(program).shared == nbytes
    busy = [int(timing(program, m).busy[0, :2].sum()) for m in (MARCH, slow)]
    assert nbytes * 0.9 < busy[1] - busy[0] + nbytes // 64 < nbytes * 1.1


# --- Cores -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [plain, residual, deep])
def test_more_cores_take_less_time(net: Callable[[], Program]) -> None:
    program = net()
    cycles = [timing(scheduled(program, MARCH, 2, l2m_bytes=24 * MIB, cores=n)).cycles for n in (1, 2, 4)]
    assert cycles[1] < cycles[0]
    assert cycles[2] < cycles[0] * 0.8


DRAWN = given(seed=SEEDS, kib=st.sampled_from([16, 64, 1024]), opt=st.integers(0, 2))


@settings(max_examples=8, deadline=None)
@DRAWN
def test_more_cores_or_the_l2m_never_take_more_time(seed: int, kib: int, opt: int) -> None:
    never_more_time(seed, kib, opt)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@DRAWN
def test_more_cores_or_the_l2m_never_take_more_time_at_length(seed: int, kib: int, opt: int) -> None:
    never_more_time(seed, kib, opt)


def never_more_time(seed: int, kib: int, opt: int) -> None:
    program, march = random_net(seed), chip_of(kib << 10, "nash-p")
    times = [
        [timing(scheduled(program, march, opt, cores=n, l2m_bytes=room), march).cycles for n in (1, 2, 3, 4)]
        for room in (0, 4 * MIB)
    ]
    assert all(row == sorted(row, reverse=True) for row in times)
    assert all(near <= far for far, near in zip(*times, strict=True))


def test_cores_that_share_ddr_wait_for_it() -> None:
    program = scheduled(deep(), MARCH, 2, cores=4)
    narrow = with_values(MARCH, {"ddr.bytes_per_second": MARCH.ddr.bytes_per_second // 8})
    assert timing(program, narrow).cycles > 3 * timing(program).cycles


def test_every_core_has_a_timeline() -> None:
    with spread():
        program = scheduled(plain(), MARCH, 2, cores=4)
    found = timing(program)
    assert len(found.cores) == 4
    macs = [int(core.macs.sum()) for core in found.cores]
    assert sum(macs) == timing(scheduled(plain(), MARCH, 2)).macs
    assert max(macs) < 1.3 * min(macs)


def test_the_performance_document_shows_every_core_and_the_l2m() -> None:
    model, _ = crossing()
    with spread():
        program = compile_model(model, march="nash-p", core_num=3, max_l2m_size=MIB)
    session = Session(program)
    document = performance_json(session)
    assert document["summary"]["model info"]["BPU core number"] == 3
    assert [group["core"] for group in document["coreSummaryGroup"]] == [0, 1, 2]
    timings = [s.timing for s in session.latency.segments if s.timing]
    for core, rows in enumerate(document["details"]):
        assert len(rows) == sum(len(t.cores[core].end) for t in timings)
    assert sum(len(rows) > 0 for rows in document["details"]) > 1
    assert document["openbpu"]["L2M"]["bytes moved per run"] == sum(t.shared for t in timings) > 0


def test_a_layer_that_splitting_does_not_help_stays_on_one_core() -> None:
    net = Net()
    program = net.program([net.conv(net.b.input((1, 4, 4, 16)), 16)])
    used = [len(code) > 0 for code in segment_of(scheduled(program, MARCH, 2, cores=4)).code]
    assert used == [True, False, False, False]


def test_reports_say_how_many_cores_work() -> None:
    program = compile_model(DIGITS, march="nash-p", core_num=4)
    assert (program.cores, program.working_cores) == (4, 1)
    assert performance_json(Session(program))["openbpu"]["working cores"] == 1
    assert info_json(Session(program), [])["segments"][0]["working_cores"] == 1
    with spread():
        shared = compile_model(crossing()[0], march="nash-p", core_num=3)
    assert (shared.cores, shared.working_cores) == (3, 3)


def without_peers(code: Sequence[Instr]) -> list[Instr]:
    return [replace(i, peers=(0,) * 6) if isinstance(i, Load | Store) else i for i in code]


def test_without_the_tokens_between_cores_something_is_read_too_early() -> None:
    with spread():
        program = scheduled(plain(), MARCH, 2, cores=4)
    inputs = inputs_of(program, 5)
    wanted = executed(program, inputs)
    segment = segment_of(program)
    careless = replace(segment, code=tuple(encode(without_peers(code)) for code in codes(program)))
    broken = replace(program, segments=(careless,))
    assert any(goes_wrong(broken, inputs, wanted, seed) for seed in range(4))


def goes_wrong(program: Program, inputs: Tensors, wanted: Tensors, seed: int) -> bool:
    try:
        return not same(executed(program, inputs, seed), wanted)
    except SimulationError:
        return True


@pytest.mark.parametrize("peers", [(1 << 20, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 1)])
def test_waiting_for_what_no_other_core_does_is_a_deadlock(peers: tuple[int, ...]) -> None:
    with spread():
        program = scheduled(plain(), MARCH, 2, cores=2)
    segment = segment_of(program)
    first = [replace(i, peers=peers) if isinstance(i, Load) else i for i in codes(program)[0]]
    program = replace(program, segments=(replace(segment, code=(encode(first), segment.code[1])),))
    with pytest.raises(SimulationError, match="deadlock"):
        timing(program)
    with pytest.raises(SimulationError, match=r"deadlock: LOAD at instruction 0 waits for .* of other core"):
        executed(program, inputs_of(program, 0))


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, cores=st.integers(2, 4))
def test_what_the_parts_of_one_job_write_does_not_wait(seed: int, cores: int) -> None:
    """Only for what was there before: reads and writes of earlier moments, by other engines."""
    rng = np.random.default_rng(seed)
    memory = SharedAccessHistory(cores * 8)
    log: list[tuple[int, int, int, int, int, bool]] = []  # moment, low, high, engine, count, write
    counts = [0] * (cores * 8)
    for moment in range(6):
        memory.moment = moment
        writes = bool(rng.integers(2))
        for _ in range(int(rng.integers(1, 6))):
            low = int(rng.integers(0, 20))
            high, engine = low + int(rng.integers(1, 8)), int(rng.integers(cores)) * 8 + writes
            counts[engine] += 1
            wait = [0] * (cores * 8)
            (memory.write if writes else memory.read)((low, high), engine, counts[engine], wait)
            for when, lo, hi, other, count, wrote in log:
                over = lo < high and low < hi and other != engine and (wrote or writes)
                if over and when != moment and not settled(log, when, (max(lo, low), min(hi, high)), moment):
                    assert wait[other] >= count
            log.append((moment, low, high, engine, counts[engine], writes))


def settled(
    log: list[tuple[int, int, int, int, int, bool]], when: int, span: tuple[int, int], now: int
) -> bool:
    """Whether some of the bytes were written in between: who did that waited, and is waited for."""
    return any(
        wrote and when < moment < now and low < span[1] and span[0] < high
        for moment, low, high, _, _, wrote in log
    )


def test_random_networks_use_every_core_and_the_l2m() -> None:
    """The tests of bits draw such schedules; here they are seen to be what they should."""
    busy, near = 0, 0
    for seed in range(12):
        with spread():
            program = scheduled(random_net(seed), chip_of(1 << 14, "nash-p"), 2, cores=4, l2m_bytes=MIB)
        busy += sum(len(code) > 0 for code in segment_of(program).code) > 1
        near += segment_of(program).l2m_bytes > 0
    assert busy > 9
    assert near > 4


@pytest.mark.parametrize("seed", [0, 3, 6])
def test_several_cores_with_the_l2m_give_the_bits_of_one_without(seed: int) -> None:
    march, net = chip_of(1 << 14, "nash-p"), random_net(seed)
    alone = scheduled(net, march, 2)
    with spread():
        shared = scheduled(net, march, 2, cores=3, l2m_bytes=MIB)
    assert sum(len(code) > 0 for code in segment_of(shared).code) > 1
    assert segment_of(shared).l2m_bytes > 0
    inputs = inputs_of(net, seed)
    for order in (None, 1):
        assert same(executed(alone, inputs), executed(shared, inputs, order))


def test_what_only_bpu_segments_use_may_stay_in_the_l2m_between_them() -> None:
    """x → conv → T → (CPU → …) and T → … : T crosses from one BPU segment to another."""
    model, inputs = crossing()
    plain_program, near = (compile_model(model, march="nash-p", max_l2m_size=n) for n in (0, MIB))
    segments = [s for s in near.segments if isinstance(s, BpuSegment)]
    assert len(segments) == 2
    shared = {near.root(i) for i in segments[0].outputs} & {near.root(i) for i in segments[1].inputs}
    assert [near.tensors[i].space for i in shared] == [Space.L2M]
    hosted = {
        near.root(i) for s in near.segments if isinstance(s, CpuSegment) for i in (*s.inputs, *s.outputs)
    }
    assert not shared & hosted
    wanted = Session(plain_program, mode="fast").run(inputs).outputs
    for mode in ("exact", "fast"):
        found = Session(read_hbm(to_bytes(near)), mode=mode).run(inputs).outputs
        assert all(np.array_equal(found[name], value) for name, value in wanted.items())
