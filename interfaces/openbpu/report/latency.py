"""How long a program takes: simulated BPU time and estimated CPU time, side by side and never added."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from openbpu.arch.program import CpuSegment
from openbpu.report.text import add_row, count, in_time, table
from openbpu.runtime import Latency, Session
from openbpu.runtime.latency import cpu_parts

if TYPE_CHECKING:
    from rich.table import Table


def latency_table(latency: Latency, top: int | None = None) -> Table:
    """Return one row per segment, of many the `top` that take longest, and one per sum."""
    made = table("Segment", "ON", "Cycles", "Latency", "Basis", numbers=("Cycles", "Latency"))
    costly = sorted(latency.segments, key=lambda s: -s.microseconds)[:top]
    for s in (s for s in latency.segments if s in costly):
        cycles = f"{s.cycles:,}" if s.on == "BPU" else ""
        start = f", {in_time(s.start_us)} of it to start" if s.start_us else ""
        add_row(made, s.name, s.on, cycles, in_time(s.microseconds), s.basis + start)
    left = len(latency.segments) - len(costly)
    if left:
        add_row(made, f"… and {count(left, 'shorter one')}")
    made.add_section()
    add_row(made, "all BPU segments", "BPU", "", in_time(latency.bpu_us), "simulated", style="bold")
    if any(s.on == "CPU" for s in latency.segments):
        add_row(made, "all CPU segments", "CPU", "", in_time(latency.cpu_us), "estimate")
    apart = "estimate, in the last line only"
    add_row(made, "submitting a run", "CPU", "", in_time(latency.submit_us), apart)
    add_row(made, "dequantizing integer outputs", "CPU", "", in_time(latency.dequantize_us), apart)
    frame = "frame" if latency.images == 1 else f"run of {latency.images} frames"
    add_row(made, f"per {frame}, several threads", "", "", in_time(latency.frame_us), "estimate")
    add_row(made, "one thread, call to return", "", "", in_time(latency.one_thread_us), "estimate, all of it")
    return made


def latency_json(latency: Latency) -> dict[str, Any]:
    """Return the figures in µs; "bpu_us" is simulated, the others are not. All are per run, of one batch."""
    return {
        "bpu_us": latency.bpu_us,
        "cpu_us_estimate": latency.cpu_us,
        "submit_us": latency.submit_us,
        "dequantize_us_estimate": latency.dequantize_us,
        "frame_us_estimate": latency.frame_us,
        "one_thread_us_estimate": latency.one_thread_us,
        "images per run": latency.images,
        "segments": [
            {
                "name": s.name,
                "on": s.on,
                "us": s.microseconds,
                "basis": s.basis,
                "cycles": s.cycles,
                "start_us": s.start_us,
            }
            for s in latency.segments
        ],
    }


def estimates_json(session: Session) -> list[dict[str, Any]]:
    """Return what the vendor's figures leave out, each in µs and labelled: CPU segments and the host's part.

    `confidence` is that of the march's numbers that it rests on.
    """
    program, march = session.program, session.march

    def entry(what: str, us: float, numbers: tuple[str, ...], **more: object) -> dict[str, Any]:
        confidence = {f"cpu.{n}": march.numbers[f"cpu.{n}"].confidence for n in numbers}
        return {"what": what, "us": us, "basis": "estimate", "confidence": confidence, **more}

    found = []
    for index, segment in enumerate(program.segments):
        if isinstance(segment, CpuSegment):
            parts = cpu_parts(program, index, march.cpu)
            origins = [p.node for p in program.placement if p.segment == index and p.on == "CPU"]
            found.append(
                entry(
                    f"CPU segment '{segment.name}'",
                    parts.total_us,
                    ("handover_us", "dispatch_us", "flops_per_cycle", "bytes_per_second"),
                    **asdict(parts),
                    nodes=segment.nodes,
                    **{"origin ops": origins},
                )
            )
    latency = session.latency
    found.append(entry("dispatch: submitting a run", latency.submit_us, ("submit_us",)))
    found.append(entry("dequantization of integer outputs", latency.dequantize_us, ("dequantize_ps",)))
    return found
