"""One count made by hand for every kind of instruction: what its engine takes, to the cycle.

Order and agreement (more takes longer, arrays as integers) are tested elsewhere; these are the numbers. The
march has a different one for everything that could be taken for something else.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openbpu.arch import isa
from openbpu.arch.isa import Engine
from openbpu.arch.march import get_march, with_values
from openbpu.arch.program import Lut
from openbpu.arch.timing import instruction_costs, matmul_cycles, memory_cycles, port_cycles, shared_cycles
from simulator.build import Build, one_operator_program, segment_of
from simulator.random_operators import program_of
from simulator.tiles import tiled

KNOWN = with_values(
    get_march("nash-e"),
    {
        "chip.layer_cycles": 0,
        "chip.table_ns": 0,
        "chip.port_bytes_per_cycle": 0,
        "tae.input_lanes": 8,
        "tae.output_lanes": 16,
        "tae.pixel_rows": 2,
        "tae.pixel_cols": 4,
        "tae.requant_lanes": 1 << 20,
        "tae.weight_bytes_per_cycle": 1 << 20,
        "tae.vector_bytes_per_cycle": 1 << 20,
        "tae.passes_int8_int16": 3,
        "tae.stall_permille": 0,
        "tae.matrix_ns": 0,
        "tae.issue_cycles": 1,
        "vae.lanes_int8": 16,
        "vae.lanes_int16": 8,
        "vae.lanes_int32": 4,
        "vae.lut_int8": 10,
        "vae.lut_int16": 6,
        "vae.softmax_passes": 7,
        "vae.norm_passes": 11,
        "vae.row_cycles": 13,
        "vae.issue_cycles": 3,
        "aae.lanes_int8": 20,
        "aae.lanes_int16": 14,
        "aae.resize_lanes": 4,
        "aae.issue_cycles": 5,
        "trans.bytes_per_cycle": 16,
        "trans.elements_per_cycle": 2,
        "trans.issue_cycles": 2,
        "vpu.lanes": 9,
        "vpu.issue_cycles": 7,
    },
)
SEED = 4  # the shapes beside each count are those of this draw

COUNTS = {
    # 1 × 1 × 51 results in 3 groups of 16 → 17 channels, 2 taps, int16 weights (3 passes):
    # 3 groups of 2 blocks, 2 taps of 2 steps
    "conv": 1 + 3 * 2 * 2 * 2 * 3,
    # 130 × 16 × 100 of int8 × int16: 17 blocks of 8 rows, 13 steps of 8, 3 passes
    "matmul": 1 + 17 * 13 * 3,
    # 17 × 17 × 3 int8; the first operand has one element where the others have 3, so runs are of 3
    "binary": 3 + 17 * 17 * 1,
    # 40 × 40 × 3 in one run
    "lut": 3 + 480,
    "segment_lut": 3 + 800,
    "rescale": 3 + 1200,  # int32
    # a row of 3 × 15 results, 12 taps, int16 results: 4 vectors of 14
    "pool": 5 + 1 * 4 * 12,
    # 3 × 1500 × 1100 int8 in one run, then 3 × 1100 results folded in int32
    "reduce": 3 + 3 * 1500 * 1100 // 16 + 3 * 1100 // 4,
    # rows of 300: 38 vectors of 8
    "softmax": 3 + 4 * (7 * 38 + 13),
    "layernorm": 3 + 5 * (11 * 38 + 13),
    # a transpose of 33 × 17 × 2 × 33: element by element
    "move": 2 + 33 * 17 * 2 * 33 // 2,
    # 50 runs of 1100 int8: 69 vectors each
    "concat": 3 + 50 * 69,
    # 44 × 8 × 41 int32 in one run
    "pad": 3 + 44 * 8 * 41 // 4,
    # 3 × 50 runs of 12 bytes: fewer cycles by runs than by elements
    "gather": 2 + 3 * 50,
    # 7 rows of 5 × 2 results: 3 vectors of 4
    "resize": 5 + 7 * 3,
    # 4800 and 600 elements in one run
    "quantize": 7 + 534,
    "dequantize": 7 + 67,
}


def computed(kind: str, march: object = KNOWN) -> list[int]:
    """Cycles of the instructions that compute, in their order."""
    program = tiled(program_of(kind, SEED)[0])
    segment = segment_of(program)
    costs = instruction_costs(segment.code[0], segment.operators, program.tensors, march)  # type: ignore[arg-type]
    engines = isa.headers(segment.code[0])["engine"].tolist()
    moves = (Engine.LOAD, Engine.STORE)
    return [int(c) for c, engine in zip(costs.cycles, engines, strict=True) if engine not in moves]


@pytest.mark.parametrize("kind", COUNTS)
def test_an_instruction_takes_the_cycles_counted_by_hand(kind: str) -> None:
    assert computed(kind)[0] == COUNTS[kind]


def test_an_operator_is_set_up_once_and_its_table_too() -> None:
    dear = with_values(KNOWN, {"chip.layer_cycles": 1000, "chip.table_ns": 10_000})
    assert computed("lut", dear) == [COUNTS["lut"] + 11_000]
    assert computed("concat", dear) == [COUNTS["concat"] + 1000, COUNTS["concat"]]
    assert computed("pad", dear)[:2] == [COUNTS["pad"] + 1000, computed("pad")[1] + 1000]  # VAE and TRANS


@pytest.mark.parametrize("kind", ["lut", "segment_lut"])
def test_a_table_of_either_width_takes_its_time_whatever_the_clock(kind: str) -> None:
    for ghz in (1, 2):
        march = with_values(KNOWN, {"chip.table_ns": 1500, "chip.clock_hz": ghz * 1_000_000_000})
        assert computed(kind, march)[0] == COUNTS[kind] + 1500 * ghz


@pytest.mark.parametrize("first", [False, True])
def test_a_table_is_set_up_whatever_its_number(first: bool) -> None:
    b, values = Build(), np.arange(-128, 128, dtype=np.int8)
    lowest = b.const(values)  # tensor 0
    x, y, highest = b.input((1, 2, 2, 16)), b.tensor((1, 2, 2, 16)), b.const(values)
    table = lowest if first else highest
    program = tiled(one_operator_program(b, Lut(inputs=(x,), outputs=(y,), table_id=table)))
    without, dear = (with_values(KNOWN, {"chip.table_ns": n}) for n in (0, 10_000))
    segment = segment_of(program)
    cheap, found = (
        instruction_costs(segment.code[0], segment.operators, program.tensors, march).cycles.sum()
        for march in (without, dear)
    )
    assert found == cheap + 10_000


def test_transfers_hold_the_port_in_equal_shares() -> None:
    held = (55_000 + 55_000 + 110_000) // 100  # loaded and stored by the concat, shared by its two tiles
    shared = with_values(KNOWN, {"chip.port_bytes_per_cycle": 100})
    assert computed("concat", shared) == [COUNTS["concat"] + held // 2] * 2


def test_a_transfer_takes_whole_bursts_and_a_little_per_run() -> None:
    march = with_values(
        KNOWN,
        {
            "ddr.bytes_per_second": KNOWN.clock_hz // 2,  # half a byte a cycle
            "ddr.burst_bytes": 64,
            "ddr.row_cycles": 9,
        },
    )
    assert memory_cycles(march, rows=5, run=65, offset=0) == 5 * 2 * 64 * 2 + 5 * 9
    assert memory_cycles(march, rows=1, run=64, offset=63) == 2 * 64 * 2 + 9


def test_the_l2m_takes_its_own_rate() -> None:
    march = replace(KNOWN, chip=replace(KNOWN.chip, shared_bytes_per_cycle=3, port_bytes_per_cycle=7))
    assert shared_cycles(march, 100) == 34
    assert port_cycles(march, 100) == 14


def test_a_matrix_that_was_just_computed_becomes_weights_first() -> None:
    march = with_values(KNOWN, {"tae.matrix_ns": 100, "chip.clock_hz": 1_000_000_000})
    assert matmul_cycles(march, m=8, n=16, k=8) == 100 + 1 + 1
