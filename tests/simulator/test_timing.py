"""Facts about the event engine: queues, tokens, shared memory and what it reports, in integer cycles."""

import importlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from openbpu.arch.errors import HbmError, SimulationError
from openbpu.arch.events import SHARES, run
from openbpu.arch.isa import L2M_BASE, Engine, Instr, Load, Store
from openbpu.arch.march import get_march, with_values
from openbpu.arch.timing import fill_cycles, instruction_costs
from openbpu.simulator.timing import Timing, simulate
from simulator.build import segment_of
from simulator.coder import with_code
from simulator.random_operators import program_of
from simulator.test_exact_faults import copying, load, move, store
from simulator.tiles import tiled

ISSUE, LATENCY, FILL = 10, 100, 20
# One byte per cycle from DDR and through TRANS.
MARCH = with_values(
    get_march("nash-e"),
    {
        "chip.layer_cycles": 0,
        "chip.table_ns": 0,
        "chip.port_bytes_per_cycle": 0,
        "chip.shared_bytes_per_cycle": 3,
        "ddr.bytes_per_second": 1_000_000_000,
        "ddr.burst_bytes": 1,
        "ddr.row_cycles": 0,
        "ddr.issue_cycles": ISSUE,
        "ddr.latency_cycles": LATENCY,
        "trans.bytes_per_cycle": 1,
        "trans.elements_per_cycle": 1,
        "trans.issue_cycles": 0,
        "trans.fill_cycles": FILL,
    },
)


def timed(*cores: Sequence[Instr], **chip: int) -> Timing:
    program = copying(*cores)
    march = with_values(MARCH, {f"chip.{name}": value for name, value in chip.items()})
    return simulate(program, segment_of(program), march)


def starts(timing: Timing, core: int = 0) -> list[int]:
    return [int(v) for v in timing.cores[core].start]


def ends(timing: Timing, core: int = 0) -> list[int]:
    return [int(v) for v in timing.cores[core].end]


def test_no_code_takes_no_time() -> None:
    for timing in (timed(), timed([])):
        assert timing.cycles == 0
        assert timing.utilization(Engine.LOAD) == 0.0


def test_load_takes_issue_and_memory_time_and_its_token_comes_later() -> None:
    timing = timed([load(0, 0)])
    assert (starts(timing), ends(timing)) == ([0], [ISSUE + 64])
    assert timing.cycles == ISSUE + 64 + LATENCY


def test_token_is_waited_for() -> None:
    timing = timed([load(0, 0), move(0, 64, load=1), store(64, 64, trans=1)])
    moved = ISSUE + 64 + LATENCY
    assert starts(timing) == [0, moved, moved + 64 + FILL]
    assert timing.cycles == moved + 64 + FILL + ISSUE + 64 + LATENCY


def test_transfers_keep_their_operator_off_the_port() -> None:
    code = [load(0, 0), move(0, 64, 10), move(10, 74, 10), move(20, 84, 10), store(64, 64)]
    timing = timed(code, port_bytes_per_cycle=16)
    held = (64 + 64) // 16  # cycles, spread over three instructions
    assert ends(timing)[1:4] == [10 + held // 3, 20 + held * 2 // 3, 30 + held]


@pytest.mark.parametrize(("kind", "tables"), [("lut", 1), ("conv", 0)])
def test_an_operator_is_set_up_once_and_its_table_too(kind: str, tables: int) -> None:
    program = tiled(program_of(kind, 1)[0])
    segment = segment_of(program)
    base = simulate(program, segment, MARCH).busy.sum()
    dear = with_values(MARCH, {"chip.layer_cycles": 1000, "chip.table_ns": 7})
    assert len(segment.operators) == 1
    assert simulate(program, segment, dear).busy.sum() == base + 1000 + 7 * tables


def test_engine_takes_its_queue_in_order_without_a_gap() -> None:
    timing = timed([move(0, 64), move(64, 128), load(0, 192), move(0, 64)])
    assert starts(timing) == [0, 64, 0, 128]


def test_two_transfers_share_the_memory() -> None:
    timing = timed([load(0, 0), store(64, 0)])
    assert ends(timing) == [ISSUE + 128, ISSUE + 128]


def test_a_transfer_alone_again_gets_all_of_it() -> None:
    timing = timed([load(0, 0, 64), store(64, 0, 16)])
    # 32 cycles together move 16 bytes each; LOAD's last 48 bytes go alone.
    assert ends(timing) == [ISSUE + 32 + 48, ISSUE + 32]


def test_a_late_transfer_slows_what_is_under_way() -> None:
    timing = timed([load(0, 0), move(0, 64, 20), store(64, 0, 20, trans=1)])
    begins = 20 + FILL + ISSUE  # of STORE's memory time
    assert ends(timing)[2] == begins + 2 * 20
    assert ends(timing)[0] == ISSUE + 64 + 20


def test_cores_share_the_memory_and_nothing_else() -> None:
    timing = timed([load(0, 0), move(0, 64)], [load(0, 0), move(0, 64)])
    assert ends(timing, 0) == ends(timing, 1) == [ISSUE + 128, 64]
    assert timing.busy[:, Engine.LOAD].tolist() == [ISSUE + 128] * 2


def test_three_ways_to_share_are_exact() -> None:
    timing = timed([load(0, 0, 30), store(64, 0, 30)], [load(0, 0, 30)])
    assert {*ends(timing, 0), *ends(timing, 1)} == {ISSUE + 90}


def test_stalls_are_the_gaps_and_name_who_was_waited_for() -> None:
    timing = timed([load(0, 0), move(0, 64, load=1), store(64, 64, trans=1)])
    assert timing.stalls[0, Engine.TRANS] == ISSUE + 64 + LATENCY
    assert timing.waits[0, Engine.TRANS, Engine.LOAD] == ISSUE + 64 + LATENCY
    assert timing.waits[0, Engine.STORE, Engine.TRANS] == starts(timing)[2]
    assert timing.cores[0].cause.tolist() == [-1, 0, 1]


def test_busy_and_stalls_of_an_engine_add_up_to_its_last_end() -> None:
    timing = tiled_timing("conv", 5)
    core = timing.cores[0]
    for engine in Engine:
        mine = core.end[core.engine == engine]
        last = int(mine.max()) if len(mine) else 0
        assert timing.busy[0, engine] + timing.stalls[0, engine] == last


def tiled_timing(kind: str, seed: int) -> Timing:
    program = tiled(program_of(kind, seed)[0])
    return simulate(program, segment_of(program), get_march("nash-e"))


@pytest.mark.parametrize("kind", ["conv", "matmul", "pool", "softmax", "gather", "quantize"])
def test_layers_hold_all_time_bytes_and_macs(kind: str) -> None:
    timing = tiled_timing(kind, 3)
    assert timing.layers.busy.sum() == timing.busy.sum()
    assert timing.layers.loaded.sum() == timing.loaded > 0
    assert timing.layers.stored.sum() == timing.stored > 0
    assert timing.layers.macs.sum() == timing.macs
    assert timing.layers.start.min() == 0
    assert timing.layers.end.max() <= timing.cycles


def test_bytes_are_what_is_moved() -> None:
    timing = timed([load(0, 0, 48), load(0, 0, 16), store(64, 0, 8)])
    assert (timing.loaded, timing.stored) == (64, 8)


def test_utilization_and_time_follow_from_cycles() -> None:
    timing = timed([load(0, 0)])
    assert timing.utilization(Engine.LOAD) == pytest.approx((ISSUE + 64) / (ISSUE + 64 + LATENCY))
    assert timing.microseconds == pytest.approx(timing.cycles / 1000)


def test_deadlock_is_an_error() -> None:
    with pytest.raises(
        SimulationError, match=r"segment0: deadlock: LOAD at instruction 0 and 1 more never start"
    ):
        timed([load(0, 0, store=1), store(64, 0, load=1)])


def test_token_that_cannot_come_is_an_error() -> None:
    with pytest.raises(SimulationError, match=r"LOAD at instruction 1 waits for TRANS 2 \(which has 1 instr"):
        timed([move(0, 64), load(0, 0, trans=2)])


def test_instruction_that_waits_for_itself_is_an_error() -> None:
    with pytest.raises(SimulationError, match="LOAD at instruction 0 and 0 more never start"):
        timed([load(0, 0, load=1)])


def test_waiting_for_ones_own_past_costs_nothing() -> None:
    assert starts(timed([move(0, 64), move(0, 64, trans=1)])) == [0, 64]


def random_code(rng: np.random.Generator, count: int) -> list[Instr]:
    """Transfers and moves with tokens that only look back."""
    done = dict.fromkeys(("load", "store", "trans"), 0)
    code: list[Instr] = []
    for _ in range(count):
        kind = str(rng.choice(list(done)))
        tokens = {k: int(rng.integers(0, v + 1)) for k, v in done.items() if k != kind and rng.random() < 0.5}
        size = int(rng.integers(1, 65))
        made = {"load": lambda: load(0, 0, size, **tokens), "store": lambda: store(64, 0, size, **tokens)}  # noqa: B023
        code.append(made[kind]() if kind in made else move(0, 64, size, **tokens))
        done[kind] += 1
    return code


def by_ticks(cores: Sequence[Sequence[Instr]], program: Any) -> list[tuple[list[int], list[int]]]:
    """Start and end of every instruction by looking at every single cycle: slow and obvious."""
    segment = segment_of(program)
    costs = [instruction_costs(c, segment.operators, program.tensors, MARCH) for c in segment.code]
    fill = fill_cycles(MARCH)
    queues = {
        (c, e): [i for i, x in enumerate(code) if x.ENGINE is e]
        for c, code in enumerate(cores)
        for e in Engine
    }
    start = [[-1] * len(code) for code in cores]
    end = [[-1] * len(code) for code in cores]
    left: dict[tuple[int, Engine], int] = {}

    def has_token(core: int, engine: int, count: int, now: int) -> bool:
        done = [end[core][i] for i in queues[core, Engine(engine)][:count]]
        return all(t >= 0 and t + fill[engine] <= now for t in done)

    now = 0
    while any(t < 0 for ends_of in end for t in ends_of):
        progress = True
        while progress:  # what ends or starts now may let others start now
            progress = False
            for (c, e), queue in queues.items():
                at = next((i for i in queue if end[c][i] < 0), None)
                if at is None:
                    continue
                tokens = [(c, o, n) for o, n in enumerate(cores[c][at].wait)]
                others = [o for o in range(len(cores)) if o != c]
                for k, n in enumerate(getattr(cores[c][at], "peers", ())):
                    tokens += [(others[k // 2], k % 2, n)] if n else []
                if start[c][at] < 0 and all(has_token(*token, now) for token in tokens):
                    start[c][at] = now
                    progress = True
                began, cost = start[c][at], costs[c]
                issue = int(cost.cycles[at] - cost.memory[at])
                if began < 0 or now < began + issue:
                    continue
                if not cost.memory[at] or left.get((c, e), 1) <= 0:
                    end[c][at] = now
                    left.pop((c, e), None)
                    progress = True
                elif (c, e) not in left:
                    left[c, e] = int(cost.memory[at]) * SHARES
        for key in left:
            left[key] -= SHARES // len(left)
        now += 1
    return list(zip(start, end, strict=True))


@pytest.mark.parametrize("seed", range(12))
def test_event_engine_equals_looking_at_every_cycle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cores = [random_code(rng, int(rng.integers(1, 20))) for _ in range(int(rng.integers(1, 4)))]
    program = copying(*cores)
    timing = simulate(program, segment_of(program), MARCH)
    assert [(starts(timing, c), ends(timing, c)) for c in range(len(cores))] == by_ticks(cores, program)


def with_peers(rng: np.random.Generator, cores: Sequence[list[Instr]]) -> list[list[Instr]]:
    """Transfers that also wait for transfers of earlier cores, and half of them to and from the L2M."""
    out: list[list[Instr]] = []
    for number, code in enumerate(cores):
        has = [[sum(i.ENGINE is e for i in c) for e in (Engine.LOAD, Engine.STORE)] for c in cores[:number]]
        waits = [
            [int(rng.integers(0, n + 1)) if rng.random() < 0.4 else 0 for counts in has for n in counts]
            for _ in code
        ]
        peers = [tuple(w) + (0,) * (6 - len(w)) for w in waits]
        near = [L2M_BASE * int(rng.integers(2)) for _ in code]
        out.append(
            [
                replace(i, peers=p, ddr=i.ddr + base) if isinstance(i, Load | Store) else i
                for i, p, base in zip(code, peers, near, strict=True)
            ]
        )
    return out


@pytest.mark.parametrize("seed", range(12))
def test_waiting_for_other_cores_equals_looking_at_every_cycle(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    cores = with_peers(rng, [random_code(rng, int(rng.integers(4, 16))) for _ in range(2 + seed % 3)])
    program = copying(*cores)
    timing = simulate(program, segment_of(program), MARCH)
    assert [(starts(timing, c), ends(timing, c)) for c in range(len(cores))] == by_ticks(cores, program)
    near = [i for c in cores for i in c if isinstance(i, Load | Store) and i.ddr >= L2M_BASE]
    assert timing.shared == sum(i.row_bytes for i in near)
    assert timing.loaded + timing.stored + timing.shared == sum(
        i.row_bytes for c in cores for i in c if isinstance(i, Load | Store)
    )


@pytest.mark.parametrize("seed", range(3))
def test_compiled_engine_equals_python(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(100 + seed)
    program = copying(random_code(rng, 400), random_code(rng, 300))
    module = importlib.import_module("openbpu.simulator.timing.queues")
    results = []
    for small in (10_000, 0):
        monkeypatch.setattr(module, "_SMALL", small)
        monkeypatch.setattr(module, "_IN_PYTHON", module._Tally())
        monkeypatch.setattr(module, "_COMPILED", "no.such.module")
        results.append(simulate(program, segment_of(program), MARCH))
    python, compiled = results
    for core in range(2):
        assert python.cores[core].start.tolist() == compiled.cores[core].start.tolist()
        assert python.cores[core].end.tolist() == compiled.cores[core].end.tolist()
        assert python.cores[core].cause.tolist() == compiled.cores[core].cause.tolist()


def test_simulating_twice_gives_the_same() -> None:
    assert tiled_timing("conv", 8).cycles == tiled_timing("conv", 8).cycles


def test_importing_it_does_not_import_numba() -> None:
    import subprocess
    import sys

    script = "import openbpu.simulator.timing, sys; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_code_of_another_program_is_refused() -> None:
    program = with_code(copying(), [load(0, 0, operator=3)])
    with pytest.raises(HbmError, match="operator 3 does not exist"):
        simulate(program, segment_of(program), MARCH)


def test_many_small_programs_bring_in_the_compiled_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("openbpu.simulator.timing.queues")
    ran: list[int] = []

    def counted(tables: Any) -> Any:
        ran.append(1)
        return lambda: run(*tables)

    monkeypatch.setattr(module, "_SMALL", 5)
    monkeypatch.setattr(module, "_IN_PYTHON", module._Tally())
    monkeypatch.setattr(module, "_COMPILED", "no.such.module")
    monkeypatch.setattr(module, "_compiled", lambda: counted)
    for _ in range(4):
        timed([load(0, 0), move(0, 64, load=1)])
    assert len(ran) == 2
