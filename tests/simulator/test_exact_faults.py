"""Facts about code that is wrong: a missing token shows, and nothing crashes, hangs or passes in silence."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openbpu.arch import isa
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError, OpenbpuError, SimulationError
from openbpu.arch.isa import ENGINES, MAX_CORES, RECORD_BYTES, Engine, Instr
from openbpu.arch.program import DebugEntry, Move, Program, Quantize
from openbpu.simulator.exact import ExactSegment
from openbpu.simulator.exact.queues import Order, Queues
from simulator.build import Build, one_operator_program, segment_of
from simulator.coder import with_code
from simulator.random_operators import program_of
from simulator.tiles import tiled

SIZE = 64  # bytes of the tensors here, and of each tile
FLAT = {"counts": (1, 1, 1, 1), "ddr_strides": (0,) * 4, "chip_strides": (0,) * 4}
X, Y = 0, 1  # tensor ids; x is at DDR address 0, y behind it
DATA = np.arange(SIZE, dtype=np.int8)


def wait(**counts: int) -> tuple[int, ...]:
    """wait(load=2): two completed instructions of LOAD."""
    return tuple(counts.get(engine.name.lower(), 0) for engine in Engine)


def load(ddr: int, chip: int, size: int = SIZE, operator: int = 0, **tokens: int) -> Instr:
    return isa.Load(operator=operator, wait=wait(**tokens), ddr=ddr, chip=chip, row_bytes=size, **FLAT)


def store(ddr: int, chip: int, size: int = SIZE, **tokens: int) -> Instr:
    return isa.Store(operator=0, wait=wait(**tokens), ddr=ddr, chip=chip, row_bytes=size, **FLAT)


def move(x: int, y: int, size: int = SIZE, element: int = 1, **tokens: int) -> Instr:
    steps = (0, 0, 0, 0, 0, element)
    counts = (1, 1, 1, 1, 1, size // element)
    return isa.MoveTile(
        operator=0,
        wait=wait(**tokens),
        x=x,
        y=y,
        element=element,
        counts=counts,
        x_strides=steps,
        y_strides=steps,
    )


def copying(*cores: Sequence[Instr], chip_bytes: int = 4 * SIZE, constants: bool = False) -> Program:
    """A program that copies x to y, with the given code."""
    b = Build()
    x, y = b.input((SIZE,)), b.tensor((SIZE,))
    if constants:
        b.const(np.arange(SIZE, dtype=np.int8))
    op = Move(inputs=(x,), outputs=(y,), shape=(SIZE,), strides=(1,), node=0)
    program = with_code(one_operator_program(b, op), *cores, chip_bytes=chip_bytes)
    return replace(program, debug=(DebugEntry("my_layer", "Move"),))


def run(program: Program, order_seed: int | None = None, **inputs: Any) -> Any:
    segment = ExactSegment(program, segment_of(program), order_seed=order_seed)
    return segment.run(inputs.get("given", {X: DATA}))[Y]


GOOD = [load(0, 0), move(0, SIZE, load=1), store(SIZE, SIZE, trans=1)]


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_tokens_order_what_engines_do(seed: int | None) -> None:
    assert run(copying(GOOD), seed).tolist() == DATA.tolist()


@pytest.mark.parametrize("seed", [None, 0])
def test_engines_run_in_order_whatever_the_code_interleaves(seed: int | None) -> None:
    code = [store(SIZE, SIZE, trans=1), move(0, SIZE, load=1), load(0, 0)]
    assert run(copying(code), seed).tolist() == DATA.tolist()


def test_compute_without_its_load_token_reads_what_nobody_wrote() -> None:
    code = [load(0, 0), move(0, SIZE), store(SIZE, SIZE, trans=1)]
    with pytest.raises(SimulationError) as error:
        run(copying(code), 0)
    assert str(error.value) == (
        "segment0: core 0, instruction 1 (MoveTile of operator 0, a Move 'my_layer'): "
        "reads byte 0 of on-chip memory, which nobody wrote"
    )


def test_store_without_its_token_reads_what_nobody_wrote() -> None:
    with pytest.raises(SimulationError, match=r"instruction 2 \(Store .*reads byte 64 of on-chip memory"):
        run(copying([load(0, 0), move(0, SIZE, load=1), store(SIZE, SIZE)]), 0)


def test_load_of_ddr_that_is_stored_later_reads_what_nobody_wrote() -> None:
    code = [*GOOD, load(SIZE, 2 * SIZE)]
    with pytest.raises(SimulationError, match=r"instruction 3 \(Load .*reads byte 64 of DDR memory"):
        run(copying(code))


def test_buffer_loaded_again_too_early_shows_in_the_values() -> None:
    """The second LOAD should wait for TRANS: by default it comes as early as possible."""
    code = [
        load(0, 0, SIZE // 2),
        move(0, SIZE, SIZE // 2, load=1),
        store(SIZE, SIZE, SIZE // 2, trans=1),
        load(SIZE // 2, 0, SIZE // 2),
        move(0, SIZE + SIZE // 2, SIZE // 2, load=2),
        store(SIZE + SIZE // 2, SIZE + SIZE // 2, SIZE // 2, trans=2),
    ]
    assert run(copying(code)).tolist() != DATA.tolist()
    code[3] = load(SIZE // 2, 0, SIZE // 2, trans=1)
    assert run(copying(code)).tolist() == DATA.tolist()


def test_result_overwritten_before_it_is_stored_shows_in_the_values() -> None:
    """The second move should wait for STORE: by default STORE comes as late as possible."""
    half = SIZE // 2
    code = [
        load(0, 0),
        move(0, SIZE, half, load=1),
        store(SIZE, SIZE, half, trans=1),
        move(half, SIZE, half, load=1),
        store(SIZE + half, SIZE, half, trans=2),
    ]
    assert run(copying(code)).tolist() != DATA.tolist()
    code[3] = move(half, SIZE, half, load=1, store=1)
    assert run(copying(code)).tolist() == DATA.tolist()


@pytest.mark.parametrize(("seed", "first", "last"), [(None, "LOAD", "STORE"), (0, "STORE", "LOAD")])
def test_an_order_without_chance_loads_first_and_stores_last_or_the_reverse(
    seed: int | None, first: str, last: str
) -> None:
    order = Order(seed)
    ready = [(core, engine) for engine in Engine for core in (1, 0)]
    chosen = []
    while ready:
        chosen.append(order.choose(ready))
        ready.remove(chosen[-1])
    engines = [engine.name for _, engine in chosen]
    assert engines[:2] == [first] * 2
    assert engines[-2:] == [last] * 2
    assert [core for core, _ in chosen] == [0, 1] * len(Engine)


@pytest.mark.parametrize("named", range(2 * (MAX_CORES - 1)))
def test_a_transfer_waits_for_that_of_the_other_core_that_it_names(named: int) -> None:
    """Two numbers per other core: of its LOADs, of its STOREs."""
    peers = tuple(int(k == named) for k in range(2 * (MAX_CORES - 1)))
    others = tuple(Queues([]) for _ in range(MAX_CORES - 1))
    queues = Queues([isa.Load(operator=0, ddr=0, chip=0, row_bytes=1, peers=peers, **FLAT)], others=others)
    assert queues.ready() == []
    assert f"of other core {named // 2} 1 (has 0)" in queues.blocked()
    others[named // 2].done[named % 2] = 1
    assert queues.ready() == [Engine.LOAD]


def test_cores_have_memories_of_their_own_and_share_ddr() -> None:
    half = SIZE // 2
    first = [load(0, 0, half), store(SIZE, 0, half, load=1)]
    second = [load(half, 0, half), store(SIZE + half, 0, half, load=1)]
    for seed in (None, 0, 1, 2, 3):
        assert run(copying(first, second), seed).tolist() == DATA.tolist()
    with pytest.raises(SimulationError, match=r"core 1, instruction 0 .*nobody wrote"):
        run(copying(first, [store(SIZE + half, 0, half)]))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ([load(0, 4 * SIZE - 1)], r"bytes 255\.\.318 are outside on-chip memory \(0\.\.255\)"),
        ([load(1 << 40, 0)], r"outside DDR memory \(0\.\.127\)"),
        ([load(0, 0), store(2 * SIZE, 0, load=1)], r"instruction 1 .*bytes 128\.\.191 are outside DDR"),
        ([load(0, 0), move(0, 0, element=3, load=1)], "an element of 3 bytes does not exist"),
        ([move(0, SIZE, 1 << 31)], "outside on-chip memory"),
    ],
)
def test_address_outside_memory_is_named(code: list[Instr], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        run(copying(code))


def test_negative_stride_may_not_leave_memory_either() -> None:
    back = isa.MoveTile(
        operator=0,
        x=0,
        y=SIZE,
        element=1,
        counts=(1, 1, 1, 1, 1, 2),
        x_strides=(0, 0, 0, 0, 0, -1),
        y_strides=(0,) * 6,
    )
    with pytest.raises(SimulationError, match=r"bytes -1\.\.0 are outside"):
        run(copying([back]))


def test_box_larger_than_memory_by_repetition_is_refused() -> None:
    many = (1, 1, 1, 1, 1 << 31, 1 << 31)
    flood = isa.MoveTile(operator=0, x=0, y=0, element=1, counts=many, x_strides=(0,) * 6, y_strides=(0,) * 6)
    with pytest.raises(SimulationError, match="is larger than on-chip memory"):
        run(copying([flood]))


def test_constants_cannot_be_overwritten() -> None:
    with pytest.raises(SimulationError, match="writes byte 0 of DDR memory, which holds constants"):
        run(copying([load(SIZE, 0), store(0, 0, load=1)], constants=True))


def test_output_that_nobody_wrote_is_named() -> None:
    with pytest.raises(SimulationError, match=r"segment0: output 't1': reads byte 64 of DDR memory"):
        run(copying([load(0, 0)]))


def test_segment_without_code_says_so() -> None:
    with pytest.raises(SimulationError, match="output 't1'"):
        run(copying())


def test_deadlock_names_who_waits_for_what() -> None:
    code = [load(0, 0, store=1), store(SIZE, 0, load=1)]
    with pytest.raises(SimulationError) as error:
        run(copying(code))
    assert str(error.value) == (
        "segment0: deadlock: LOAD at instruction 0 waits for STORE 1 (has 0); "
        "STORE at instruction 1 waits for LOAD 1 (has 0); a token is wrong"
    )


def test_token_that_never_comes_is_a_deadlock() -> None:
    with pytest.raises(SimulationError, match=r"LOAD at instruction 0 waits for VPU 4000000000 \(has 0\)"):
        run(copying([load(0, 0, vpu=4_000_000_000)]))


def test_unknown_operator_is_named() -> None:
    with pytest.raises(
        SimulationError, match=r"instruction 0 \(Load of operator 9\): operator 9 of 1 does not exist"
    ):
        run(copying([load(0, 0, operator=9)]))


def test_instruction_of_another_operator_is_refused() -> None:
    fill = isa.FillTile(operator=0, y=0, counts=(1, 1, 1, 4), y_strides=(0, 0, 0, 1))
    with pytest.raises(SimulationError, match=r"FillTile of operator 0, a Move .*cannot serve this operator"):
        run(copying([fill]))


def test_unknown_opcode_is_refused() -> None:
    program = copying(GOOD)
    (segment,) = program.segments
    code = segment_of(program).code[0].copy()
    code[1, 0] = 0xEE
    broken = replace(program, segments=(replace(segment_of(program), code=(code,)),))
    with pytest.raises(SimulationError, match=r"opcode 0xee does not exist; the file is damaged"):
        run(broken)
    assert segment is segment_of(program)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "input 't0': the tensor must be given, not absent"),
        ({X: DATA[:5]}, r"the array must be int8 \(64,\), not int8 \(5,\)"),
        ({X: DATA.astype(np.int16)}, r"the array must be int8 \(64,\), not int16 \(64,\)"),
    ],
)
def test_wrong_input_is_an_input_error(given: dict[int, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(copying(GOOD), given=given)


def test_nan_has_no_integer() -> None:
    b = Build()
    x, y = b.input((4,), DType.FLOAT32), b.tensor((4,))
    program = tiled(one_operator_program(b, Quantize(inputs=(x,), outputs=(y,), scale=1.0)))
    with pytest.raises(SimulationError, match="quantizes NaN"):
        run(program, given={x: np.array([0, 1, np.nan, 2], np.float32)})


def test_promise_that_int32_is_enough_is_checked() -> None:
    program, inputs = next(
        (p, i) for p, i in (program_of("conv", seed) for seed in range(200)) if oracle_saturates(p, i)
    )
    program = tiled(program)
    segment = segment_of(program)
    narrow = replace(segment, operators=(replace(segment.operators[0], wide=False),))  # type: ignore[call-arg]
    with pytest.raises(SimulationError, match=r"accumulators leave int32, which the operator rules out"):
        ExactSegment(replace(program, segments=(narrow,)), narrow).run(inputs)


def oracle_saturates(program: Program, inputs: Any) -> bool:
    from simulator.oracle import Oracle

    oracle = Oracle(program, segment_of(program))
    oracle.run(inputs)
    return oracle.saturations > 0


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(["conv", "pool", "binary", "gather", "resize", "softmax", "concat", "dequantize"]),
    changes=st.lists(
        st.tuples(st.integers(0, 30), st.integers(8, RECORD_BYTES - 1), st.integers(0, 255)), max_size=4
    ),
)
def test_damaged_operands_end_in_a_result_or_a_clear_error(
    kind: str, changes: list[tuple[int, int, int]]
) -> None:
    program, inputs = program_of(kind, 11)
    program = tiled(program)
    segment = segment_of(program)
    code = segment.code[0].copy()
    for row, byte, value in changes:
        code[row % len(code), byte] = value
    damaged = replace(segment, code=(code,))
    try:
        ExactSegment(replace(program, segments=(damaged,)), damaged).run(inputs)
    except OpenbpuError as error:
        assert "segment0" in str(error)  # noqa: PT017 - an error is allowed, not required


def test_engines_are_as_many_as_tokens() -> None:
    assert len(wait()) == ENGINES
