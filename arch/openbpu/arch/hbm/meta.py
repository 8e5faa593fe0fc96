"""A Program as sections and back: `meta` (JSON), `const`, `code.<segment>.<core>`, `onnx.<segment>`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from openbpu.arch.arrays import Bytes
from openbpu.arch.definition.needs import BadRecordError
from openbpu.arch.hbm.codec import from_record, to_record
from openbpu.arch.hbm.container import Section
from openbpu.arch.isa import RECORD_BYTES
from openbpu.arch.program import (
    OPERATORS,
    BpuSegment,
    CpuSegment,
    DebugEntry,
    Placement,
    Program,
    Segment,
    Tensor,
)

_KINDS = {cls.__name__: cls for cls in OPERATORS}
_PARTS = {"tensors": Tensor, "debug": DebugEntry, "placement": Placement}
_ELSEWHERE = frozenset({*_PARTS, "segments", "constants"})
_BPU_ELSEWHERE = frozenset({"operators", "code"})
_CPU_ELSEWHERE = frozenset({"model"})


def to_sections(program: Program) -> Iterator[tuple[str, memoryview]]:
    """Yield name and bytes of every section, in the order of the file; raises BadRecordError."""
    meta = to_record(program, _ELSEWHERE)
    for name in _PARTS:
        meta[name] = [to_record(part) for part in getattr(program, name)]
    meta["segments"] = [_segment_record(segment) for segment in program.segments]
    text = json.dumps(meta, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    yield "meta", memoryview(text.encode("utf-8"))
    yield "const", _bytes_of(program.constants)
    for index, segment in enumerate(program.segments):
        if isinstance(segment, CpuSegment):
            yield f"onnx.{index}", memoryview(segment.model)
            continue
        for core, code in enumerate(segment.code):
            yield f"code.{index}.{core}", _bytes_of(code)


def _bytes_of(array: Bytes) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _segment_record(segment: Segment) -> dict[str, Any]:
    if isinstance(segment, CpuSegment):
        return {"on": "CPU", **to_record(segment, _CPU_ELSEWHERE)}
    operators = [{"kind": type(op).__name__, **to_record(op)} for op in segment.operators]
    return {
        "on": "BPU",
        **to_record(segment, _BPU_ELSEWHERE),
        "operators": operators,
        "cores": len(segment.code),
    }


def from_sections(sections: Sequence[tuple[Section, Bytes]]) -> Program:
    """Return the program, its ids unchecked; constants and code are views. Raises BadRecordError."""
    left = {s.name: view for s, view in sections}
    if len(left) != len(sections):
        raise BadRecordError("two sections have one name")
    meta = _parse(_take(left, "meta"))
    constants = _take(left, "const")
    parts = {
        name: tuple(_in(f"{name}[{i}]", cls, r) for i, r in enumerate(_pop(meta, name)))
        for name, cls in _PARTS.items()
    }
    segments = tuple(_segment(i, record, left) for i, record in enumerate(_pop(meta, "segments")))
    if left:
        raise BadRecordError(f"section '{min(left)}' belongs to no segment")
    return from_record(Program, meta, **parts, segments=segments, constants=constants)


def _parse(data: Bytes) -> dict[str, Any]:
    try:
        meta = json.loads(data.tobytes())
    except (ValueError, RecursionError) as error:
        raise BadRecordError(f"section 'meta' is not JSON ({error})") from error
    if type(meta) is not dict:
        raise BadRecordError("section 'meta' is not a JSON object")
    return meta


def _take(sections: dict[str, Bytes], name: str) -> Bytes:
    if name not in sections:
        raise BadRecordError(f"section '{name}' is missing")
    return sections.pop(name)


def _pop(record: dict[str, Any], name: str) -> list[Any]:
    value = record.pop(name, None)
    if type(value) is not list:
        raise BadRecordError(f"'{name}' must be a list")
    return value


def _in(where: str, cls: type[Any], record: Any, **others: Any) -> Any:
    try:
        return from_record(cls, record, **others)
    except BadRecordError as error:
        raise BadRecordError(f"{where}: {error}") from error


def _segment(index: int, record: Any, sections: dict[str, Bytes]) -> Segment:
    where = f"segments[{index}]"
    if type(record) is not dict:
        raise BadRecordError(f"{where} must be an object")
    on = record.pop("on", None)
    if on == "CPU":
        model = _take(sections, f"onnx.{index}").tobytes()
        cpu: CpuSegment = _in(where, CpuSegment, record, model=model)
        return cpu
    if on != "BPU":
        raise BadRecordError(f"{where} must be on BPU or CPU")
    operators = tuple(
        _operator(f"{where}.operators[{i}]", r) for i, r in enumerate(_pop(record, "operators"))
    )
    cores = record.pop("cores", None)
    if type(cores) is not int or not 0 <= cores <= len(sections):
        raise BadRecordError(f"{where}.cores must be the number of its code sections")
    code = tuple(_code(f"code.{index}.{core}", sections) for core in range(cores))
    bpu: BpuSegment = _in(where, BpuSegment, record, operators=operators, code=code)
    return bpu


def _operator(where: str, record: Any) -> Any:
    kind = record.pop("kind", None) if type(record) is dict else None
    cls = _KINDS.get(kind) if type(kind) is str else None
    if cls is None:
        raise BadRecordError(f"{where} is of no known kind")
    return _in(where, cls, record)


def _code(name: str, sections: dict[str, Bytes]) -> Bytes:
    raw = _take(sections, name)
    if raw.size % RECORD_BYTES:
        raise BadRecordError(
            f"section '{name}' must hold records of {RECORD_BYTES} bytes, not {raw.size} bytes"
        )
    return raw.reshape(-1, RECORD_BYTES)
