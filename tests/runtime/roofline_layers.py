"""One layer on a march of round numbers: what rooflines are made of by hand."""

from __future__ import annotations

from openbpu.arch.march import March, get_march, with_values
from openbpu.arch.program import (
    Operator,
    Program,
)
from openbpu.runtime.roofline import LayerBound, Roofline, analyse
from simulator.build import Build
from simulator.tiles import tiled

# Round numbers: 1 cycle is 1 ns, one byte per cycle from DDR, no overhead unless a test asks for it.
QUIET = {
    "chip.clock_hz": 1_000_000_000,
    "chip.layer_cycles": 0,
    "chip.start_us": 10,
    "chip.table_ns": 0,
    "chip.port_bytes_per_cycle": 0,
    "ddr.bytes_per_second": 1_000_000_000,
    "ddr.burst_bytes": 1,
    "ddr.row_cycles": 0,
    "ddr.issue_cycles": 0,
    "ddr.latency_cycles": 0,
    "tae.input_lanes": 32,
    "tae.output_lanes": 32,
    "tae.pixel_rows": 1,
    "tae.pixel_cols": 1,
    "tae.stall_permille": 0,
    "tae.matrix_ns": 0,
    "tae.requant_lanes": 1 << 20,
    "tae.raw_lanes": 1 << 20,
    "tae.weight_bytes_per_cycle": 1 << 20,
    "tae.vector_bytes_per_cycle": 1 << 20,
    **{f"{e}.{k}": 0 for e in ("tae", "vae", "aae", "trans", "vpu") for k in ("issue_cycles", "fill_cycles")},
}


def march(**changed: int) -> March:
    keys = {name.replace("__", "."): value for name, value in changed.items()}
    return with_values(get_march("nash-e"), {**QUIET, **keys})


def fast(**changed: int) -> March:
    return march(ddr__bytes_per_second=1 << 47, **changed)


def one(op: Operator, b: Build) -> Program:
    b.add(op)
    return tiled(b.program(op.outputs))


def only(program: Program, march: March) -> LayerBound:
    (line,) = analyse(program, march).layers
    return line


def kinds(roofline: Roofline) -> dict[str, float]:
    return {c.key: c.gain_us for c in roofline.changes}
