"""What a compiled program is, in few words: digests of its parts, so that a difference says where it is.

Nothing of it depends on the processor: integers, and floats that the model itself gives.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from openbpu.arch import isa
from openbpu.arch.hbm import read_hbm, to_bytes
from openbpu.arch.march import March
from openbpu.arch.program import BpuSegment, CpuSegment, Placement, Program
from openbpu.arch.timing import instruction_costs
from openbpu.evaluation.reference.kernel import Array
from openbpu.runtime import Session
from openbpu.simulator.timing.simulate import simulate


def digest(*parts: object) -> str:
    """Ten digits of what bytes, arrays, or anything with a repr are."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype.str} {part.shape}".encode() + part.tobytes())
        else:
            found.update(part if isinstance(part, bytes) else repr(part).encode())
    return found.hexdigest()[:10]


def figures(program: Program, march: March, *, file: bool = True) -> dict[str, Any]:
    """Everything that a program holds, and what it costs; `file`: it can be written."""
    bpu = [s for s in program.segments if isinstance(s, BpuSegment)]
    tensors = [(t.name, t.shape, t.dtype.name, t.space.name, t.address) for t in program.tensors]
    return {
        "file": digest(to_bytes(program)) if file else "",
        "constants": f"{len(program.constants)} bytes, {digest(program.constants)}",
        "tensors": f"{len(tensors)}, {digest(*tensors)}",
        "grids": digest(*((t.name, t.scale, t.zero_point, t.axis) for t in program.tensors)),
        "ddr": program.ddr_bytes,
        "debug": digest(program.debug, program.options, program.macs),
        "placement": [said(row) for row in program.placement if row.on == "CPU" or row.reason],
        "placed": digest(*program.placement),
        "bpu": [_of_bpu(program, s, march) for s in bpu],
        "cpu": [_of_cpu(s) for s in program.segments if isinstance(s, CpuSegment)],
    }


def said(row: Placement) -> str:
    """A row of the placement table, in words."""
    return f"{row.node}: {row.op} on {row.on} ({row.dtypes}): {row.reason}; {row.fix}"


def _of_cpu(segment: CpuSegment) -> str:
    return f"{segment.nodes} nodes, {segment.flops} flops, {segment.bytes_moved} bytes"


def _of_bpu(program: Program, segment: BpuSegment, march: March) -> dict[str, Any]:
    timing = simulate(program, segment, march)
    return {
        "cycles": timing.cycles,
        "loaded": timing.loaded,
        "stored": timing.stored,
        "busy": [" ".join(map(str, core)) for core in timing.busy.tolist()],
        "stalls": digest(timing.stalls, timing.waits),
        "chip": segment.chip_bytes,
        "l2m": segment.l2m_bytes,
        "operators": _counted((type(o).__name__, o) for o in segment.operators),
        "code": [_of_code(program, segment, code, march) for code in segment.code if len(code)],
    }


def _of_code(program: Program, segment: BpuSegment, code: isa.Code, march: March) -> dict[str, str]:
    """By kind: how many instructions, their cycles and bytes, a digest of them and of each one's cost."""
    costs = instruction_costs(code, segment.operators, program.tensors, march)
    kinds = defaultdict(list)
    for number, instruction in enumerate(isa.decode(code)):
        kinds[type(instruction).__name__].append(number)
    columns = (costs.cycles, costs.memory, costs.moved, costs.shared, costs.macs)
    found = {}
    for kind, n in sorted(kinds.items()):
        sums = f"{costs.cycles[n].sum()} cycles, {costs.moved[n].sum() + costs.shared[n].sum()} bytes"
        found[kind] = f"{len(n)}, {sums}, {digest(code[n])}, each {digest(*(c[n] for c in columns))}"
    return found


def _counted(named: Iterable[tuple[str, object]]) -> dict[str, str]:
    kinds = defaultdict(list)
    for kind, value in named:
        kinds[kind].append(value)
    return {kind: f"{len(values)}, {digest(*values)}" for kind, values in sorted(kinds.items())}


def results(program: Program, inputs: Mapping[str, Array]) -> dict[str, str]:
    """A digest of each output, which both modes give, also of the file read back."""
    whole = read_hbm(to_bytes(program))
    fast, exact = (Session(whole, mode=m).run(dict(inputs), finite=False).outputs for m in ("fast", "exact"))
    for name, value in exact.items():
        np.testing.assert_array_equal(fast[name], value, name)
    return {name: digest(value) for name, value in exact.items()}
