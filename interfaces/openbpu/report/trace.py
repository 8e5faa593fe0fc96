"""One run as a trace for Perfetto (ui.perfetto.dev) or chrome://tracing: engines of every core, and the CPU.

The time axis is that of one thread from call to return: submitting, the segments one after another, reading
integer outputs. What the CPU does is estimated, and named so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from openbpu.arch.isa import Engine
from openbpu.arch.program import BpuSegment
from openbpu.report.disasm import layer_name
from openbpu.runtime import Session

if TYPE_CHECKING:
    from openbpu.runtime.latency import SegmentLatency, Timing

_US = 1e6
_DIGITS = 4
_HOST = 0  # process of what the CPU does; core n of the BPU is process n + 1

Event = dict[str, Any]


def trace_json(session: Session) -> dict[str, Any]:
    """Return the trace-event document of one run; times in µs."""
    return {"displayTimeUnit": "ns", "traceEvents": [*_names(session), *_events(session)]}


def _names(session: Session) -> Iterator[Event]:
    yield _meta("process_name", _HOST, 0, "CPU (estimates)")
    cores = max((len(s.timing.cores) for s in session.latency.segments if s.timing), default=0)
    for core in range(cores):
        yield _meta("process_name", core + 1, 0, f"{session.program.march}, BPU core {core}")
        for engine in Engine:
            yield _meta("thread_name", core + 1, int(engine), engine.name)


def _meta(kind: str, pid: int, tid: int, name: str) -> Event:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


def _events(session: Session) -> Iterator[Event]:
    latency = session.latency
    yield _slice("submitting a run (estimate)", _HOST, 0, 0.0, latency.submit_us)
    at = latency.submit_us
    for index, cost in enumerate(latency.segments):
        if cost.timing is None:
            yield _slice(f"{cost.name} (estimate)", _HOST, 0, at, cost.microseconds)
        else:
            yield from _instructions(session, index, cost, cost.timing, at)
        at += cost.microseconds
    if latency.dequantize_us:
        yield _slice("dequantizing integer outputs (estimate)", _HOST, 0, at, latency.dequantize_us)


def _instructions(
    session: Session, index: int, cost: SegmentLatency, timing: Timing, at: float
) -> Iterator[Event]:
    """Yield what every engine does; the segment's start is spent before its first instruction."""
    segment = session.program.segments[index]
    if not isinstance(segment, BpuSegment):
        raise TypeError(f"segment {index} must be a BPU segment, not {type(segment).__name__}")
    names = [layer_name(session.program, segment, i) for i in range(len(segment.operators))]
    cycle, first = _US / timing.clock_hz, at + cost.start_us
    for number, core in enumerate(timing.cores):
        if cost.start_us:
            yield _slice(f"{cost.name}: start", number + 1, int(Engine.LOAD), at, cost.start_us)
        columns = (core.engine, core.operator, core.start, core.duration, core.moved, core.macs)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for engine, operator, start, duration, moved, macs in rows:
            extra = {k: v for k, v in (("bytes", moved), ("macs", macs)) if v}
            event = _slice(names[operator], number + 1, engine, first + start * cycle, duration * cycle)
            yield {**event, "args": {"segment": cost.name, **extra}}


def _slice(name: str, pid: int, tid: int, start: float, duration: float) -> Event:
    times = {"ts": round(start, _DIGITS), "dur": round(duration, _DIGITS)}
    return {"ph": "X", "name": name, "pid": pid, "tid": tid, **times}
