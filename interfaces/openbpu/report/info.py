"""What a `.hbm` holds: march, inputs and outputs, segments, memory, sections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from openbpu.arch.hbm import FORMAT, Section
from openbpu.arch.isa import ISA, headers
from openbpu.arch.program import BpuSegment, CpuSegment, Program, Segment
from openbpu.report.text import add_row, in_bytes, in_shape, table
from openbpu.runtime import Session, TensorInfo

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN_SCALES = 3


def info_json(session: Session, sections: Sequence[Section]) -> dict[str, Any]:
    """Return everything `openbpu info` shows as one JSON document; sizes are in bytes."""
    program = session.program
    return {
        "name": program.name,
        "march": program.march,
        "format": FORMAT,
        "options": dict(program.options),
        "inputs": [_tensor_json(t) for t in session.inputs],
        "outputs": [_tensor_json(t) for t in session.outputs],
        "segments": [_segment_json(s) for s in program.segments],
        "nodes": {on: sum(p.on == on for p in program.placement) for on in ("BPU", "CPU")},
        "macs": dict(program.macs),
        "memory": memory_of(session),
        "sections": [asdict(s) for s in sections],
    }


def memory_of(session: Session) -> dict[str, int]:
    """Return the bytes of constants, of other DDR, of inputs, of outputs, and on chip per core."""
    program = session.program
    chip = [s.chip_bytes for s in program.segments if isinstance(s, BpuSegment)]
    return {
        "static": int(program.constants.size),
        "dynamic": program.ddr_bytes,
        "input": sum(t.aligned_bytes for t in session.inputs),
        "output": sum(t.aligned_bytes for t in session.outputs),
        "chip": max(chip, default=0),
    }


def _tensor_json(t: TensorInfo) -> dict[str, Any]:
    return {
        "name": t.name,
        "shape": t.shape,
        "dtype": t.dtype.value,
        "quanti_type": t.quanti_type,
        "scale": t.scale,
        "zero_point": t.zero_point,
        "quantize_axis": t.axis,
        "strides": t.strides,
        "bytes": t.nbytes,
        "aligned_bytes": t.aligned_bytes,
    }


def _segment_json(segment: Segment) -> dict[str, Any]:
    if isinstance(segment, CpuSegment):
        work = {"flops": segment.flops, "bytes_moved": segment.bytes_moved}
        return {
            "name": segment.name,
            "on": "CPU",
            "nodes": segment.nodes,
            "onnx_bytes": len(segment.model),
            **work,
        }
    return {
        "name": segment.name,
        "on": "BPU",
        "operators": dict(Counter(type(op).__name__ for op in segment.operators)),
        "instructions": instruction_counts(segment),
        "cores": len(segment.code),
        "working_cores": segment.working_cores,
        "chip_bytes": segment.chip_bytes,
        "l2m_bytes": segment.l2m_bytes,
    }


def instruction_counts(segment: BpuSegment) -> dict[str, int]:
    """Return how many instructions each engine has, over all cores."""
    total: Counter[str] = Counter()
    for code in segment.code:
        opcodes = headers(code)["opcode"].tolist()
        total.update(ISA[opcode].ENGINE.name for opcode in opcodes)
    return dict(sorted(total.items()))


def info_tables(session: Session, sections: Sequence[Section]) -> list[Table]:
    """Return the tables of `openbpu info`."""
    return [
        _program_table(session),
        tensor_table("Inputs", session.inputs),
        tensor_table("Outputs", session.outputs),
        _segment_table(session.program),
        _section_table(sections),
    ]


def _program_table(session: Session) -> Table:
    program, memory = session.program, memory_of(session)
    made = table("Program", program.name)
    rows = {
        "march": f"{program.march} ({session.march.product})",
        "options": ", ".join(f"{k}={v}" for k, v in program.options) or "none",
        "constants": in_bytes(memory["static"]),
        "DDR for tensors": in_bytes(memory["dynamic"]),
        "on-chip memory": f"{in_bytes(memory['chip'])} of {in_bytes(session.march.chip_bytes)} per core",
        "MACs": ", ".join(f"{pair} {n:,}" for pair, n in program.macs) or "none",
    }
    if program.cores > 1:
        rows["BPU cores"] = f"{program.working_cores} of {program.cores} work"
    near = max((s.l2m_bytes for s in program.segments if isinstance(s, BpuSegment)), default=0)
    if near:
        rows["L2M"] = f"{in_bytes(near)} of {in_bytes(session.march.chip.shared_bytes)}"
    for name, value in rows.items():
        add_row(made, name, value)
    return made


def tensor_table(title: str, tensors: Sequence[TensorInfo]) -> Table:
    """Return the inputs or outputs with what a caller must know to fill or read them."""
    columns = (
        "Name",
        "Shape",
        "DType",
        "Quanti",
        "Scale",
        "Zero point",
        "Strides (bytes)",
        "Bytes",
        "Aligned",
    )
    made = table(*columns, numbers=("Bytes", "Aligned"), title=title)
    for t in tensors:
        quantized = (_scales(t), t.zero_point) if t.scale else ("", "")
        strides = ", ".join(map(str, t.strides))
        add_row(
            made,
            t.name,
            in_shape(t.shape),
            t.dtype.value,
            t.quanti_type,
            *quantized,
            strides,
            t.nbytes,
            t.aligned_bytes,
        )
    return made


def _scales(t: TensorInfo) -> str:
    shown = ", ".join(f"{s:.6g}" for s in t.scale[:_SHOWN_SCALES])
    more = len(t.scale) - _SHOWN_SCALES
    return f"{shown} … {len(t.scale)} along axis {t.axis}" if more > 0 else shown


def _segment_table(program: Program) -> Table:
    made = table("Segment", "ON", "Content", "Instructions", title="Segments")
    for s in program.segments:
        if isinstance(s, CpuSegment):
            add_row(made, s.name, "CPU", f"{s.nodes} ONNX nodes", "", style="yellow")
            continue
        kinds = Counter(type(op).__name__ for op in s.operators)
        content = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
        code = ", ".join(f"{n} {engine}" for engine, n in instruction_counts(s).items())
        add_row(made, s.name, "BPU", content, code)
    return made


def _section_table(sections: Sequence[Section]) -> Table:
    made = table("Section", "Offset", "Bytes", "CRC-32", numbers=("Offset", "Bytes"), title="Sections")
    for s in sections:
        add_row(made, s.name, s.offset, s.size, f"{s.crc:08x}")
    return made
