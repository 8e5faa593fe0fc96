"""The instructions of a program as text, one line each: index, engine, layer, operands, tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from openbpu.arch.errors import printable
from openbpu.arch.isa import Code, Engine, Instr, decode
from openbpu.arch.program import BpuSegment, Program

_CHUNK = 1024
_LAYER_WIDTH = 24


def disassemble(program: Program) -> Iterator[str]:
    """Yield the lines of every segment, core by core."""
    for index, segment in enumerate(program.segments):
        if not isinstance(segment, BpuSegment):
            yield f"; segment {index} '{printable(segment.name)}': {segment.nodes} nodes on the CPU"
            continue
        for core, code in enumerate(segment.code):
            head = f"; segment {index} '{printable(segment.name)}', core {core}: {len(code)} instructions"
            yield f"{head}, {segment.chip_bytes} bytes on chip"
            yield from _lines(program, segment, code)


def _lines(program: Program, segment: BpuSegment, code: Code) -> Iterator[str]:
    for start in range(0, len(code), _CHUNK):
        for offset, instr in enumerate(decode(code[start : start + _CHUNK])):
            name = layer_name(program, segment, instr.operator)
            yield f"{start + offset:>7}  {instr.ENGINE.name:<5}  {name:<{_LAYER_WIDTH}}  {_text(instr)}"


def disasm_json(program: Program) -> dict[str, Any]:
    """Return the same as one document: segments, their cores, and the instructions of each in code order."""
    return {
        "name": program.name,
        "march": program.march,
        "segments": [
            {
                "name": s.name,
                "on": "BPU",
                "chip_bytes": s.chip_bytes,
                "cores": [
                    [
                        _instr_json(program, s, i)
                        for n in range(0, len(c), _CHUNK)
                        for i in decode(c[n : n + _CHUNK])
                    ]
                    for c in s.code
                ],
            }
            if isinstance(s, BpuSegment)
            else {"name": s.name, "on": "CPU", "nodes": s.nodes}
            for s in program.segments
        ],
    }


def _instr_json(program: Program, segment: BpuSegment, instr: Instr) -> dict[str, Any]:
    return {
        "engine": instr.ENGINE.name,
        "layer": layer_name(program, segment, instr.operator),
        "instruction": type(instr).__name__,
        "operands": {f.name: getattr(instr, f.name) for f in fields(instr) if "kind" in f.metadata},
        "wait": {Engine(e).name: n for e, n in enumerate(instr.wait) if n},
    }


def layer_name(program: Program, segment: BpuSegment, operator: int) -> str:
    """Return the name of an operator's layer, or its kind and index where the debug map has none."""
    op = segment.operators[operator]
    if op.node >= 0 and program.debug[op.node].name:
        return printable(program.debug[op.node].name)
    return f"{type(op).__name__}.{operator}"


def _text(instr: Instr) -> str:
    operands = [f"{f.name}={_value(getattr(instr, f.name))}" for f in fields(instr) if "kind" in f.metadata]
    waits = [f"{Engine(e).name}>={n}" for e, n in enumerate(instr.wait) if n]
    text = f"{type(instr).__name__} {' '.join(operands)}"
    return f"{text}  wait {' '.join(waits)}" if waits else text


def _value(value: int | tuple[int, ...]) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
