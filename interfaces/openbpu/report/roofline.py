"""The roofline of a program: what bounds each layer, and what would help most, as JSON and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from openbpu.arch.isa import Engine
from openbpu.arch.march import March
from openbpu.arch.program import BpuSegment
from openbpu.report.disasm import layer_name
from openbpu.report.text import add_row, in_time, table
from openbpu.runtime import Session
from openbpu.runtime.roofline import Advice, CpuBound, LayerBound, NetworkChange

if TYPE_CHECKING:
    from rich.table import Table


_DDR = (Engine.LOAD, Engine.STORE)
_SHOWN_CHANGES = 6
_DIGITS = 3


def roofline_json(session: Session) -> dict[str, Any]:
    """Return the roof, every layer under it, and what would help; times in µs, gains of the BPU's part.

    A gain is the whole segment timed again with the change; CPU figures are estimates and say so.
    """
    roof, found = _roof(session), session.roofline
    return {
        "roof": roof,
        "layers": [_layer(session, line) for line in found.layers],
        "cpu segments": [_cpu(session, c) for c in found.cpu],
        "network": _network(session),
    }


def _roof(session: Session) -> dict[str, Any]:
    """Return the roof of the cores that the program uses: MACs at the arrays' rate, bytes at the memory's."""
    march = session.march
    cores = max(session.program.working_cores, 1)
    peak = march.tae.macs_per_cycle * march.clock_hz * cores
    return {
        "cores": cores,
        "int8 macs per second": peak,
        "ddr bytes per second": march.ddr.bytes_per_second,
        "ridge (macs per byte)": round(peak / march.ddr.bytes_per_second, 1),
    }


def _layer(session: Session, line: LayerBound) -> dict[str, Any]:
    bound, intensity = line.bound, line.bound.intensity
    reached = max(bound.compute_us + bound.overhead_us, bound.ddr_us)
    return {
        "layer name": _name(session, line),
        "segment": session.program.segments[line.segment].name,
        "bound": bound.by,
        "engine": bound.engine,
        "compute_us": round(bound.compute_us, _DIGITS),
        "ddr_us": round(bound.ddr_us, _DIGITS),
        "overhead_us": round(bound.overhead_us, _DIGITS),
        "exposed_us": round(line.exposed_us, _DIGITS),
        "macs": bound.macs,
        "ddr bytes": bound.ddr_bytes,
        "macs per byte": None if intensity is None else round(intensity, _DIGITS),
        "attainable macs per us": round(_attainable(session.march, line), 1),
        "reached macs per us": round(bound.macs / reached, 1) if reached else 0.0,
        "array use": round(bound.array_use, 4),
        "idle": bound.idle,
        "change": _change(line.advice),
    }


def _attainable(march: March, line: LayerBound) -> float:
    """Return the roof over a layer: its array rate, or what its intensity lets through from DDR."""
    bound, bytes_per_us = line.bound, march.ddr.bytes_per_second / 1e6
    if not bound.macs or bound.intensity is None:
        return bound.peak_macs_per_us if bound.macs else 0.0
    return min(bound.peak_macs_per_us, bound.intensity * bytes_per_us)


def _change(advice: Advice | NetworkChange) -> dict[str, Any]:
    return {"kind": advice.key, "what": advice.text, "gain_us": round(advice.gain_us, _DIGITS)}


def _cpu(session: Session, bound: CpuBound) -> dict[str, Any]:
    return {
        "segment": session.program.segments[bound.segment].name,
        "basis": "estimate",
        "bound": bound.by,
        "nodes": bound.nodes,
        **{name: round(us, _DIGITS) for name, us in asdict(bound.parts).items()},
        "change": {
            "kind": "CPU segment",
            "what": f"{bound.why}: {bound.cure}",
            "gain_us": round(bound.gain_us, _DIGITS),
            "basis": "estimate",
        },
    }


def _network(session: Session) -> dict[str, Any]:
    """Return where the time of a run goes, what is the largest of it, and the changes, the best one first."""
    parts, changes = _parts(session), session.roofline.changes
    return {
        "bound": max(parts, key=lambda k: parts[k]) if any(parts.values()) else "none",
        **{f"{name}_us": round(us, _DIGITS) for name, us in parts.items()},
        "best change": _change(changes[0]) if changes else None,
        "changes": [{**_change(c), "layers": c.layers} for c in changes],
    }


def _parts(session: Session) -> dict[str, float]:
    """Return µs by cause, as if they never overlapped: the busiest computing engine, DDR, overhead, CPU."""
    lines, starts = session.roofline.layers, session.march.chip.start_us
    compute: dict[str, float] = {}
    for line in lines:
        compute[line.bound.engine] = compute.get(line.bound.engine, 0.0) + line.bound.compute_us
    return {
        "compute": max(compute.values(), default=0.0),
        "DDR": sum((line.bound.ddr_us for line in lines), 0.0),
        "overhead": sum((line.bound.overhead_us for line in lines), 0.0)
        + float(starts * len({line.segment for line in lines})),
        "CPU": session.latency.cpu_us,
    }


def _name(session: Session, line: LayerBound) -> str:
    segment: BpuSegment = session.program.segments[line.segment]  # type: ignore[assignment]
    return layer_name(session.program, segment, line.members[0])


def roofline_table(session: Session, shown: Sequence[int] | None = None, top: int | None = None) -> Table:
    """Return one row per layer that takes time: the three numbers that decide, and what would help most.

    shown: indices of the layers, in the order of the rows; all without · top: so many CPU segments, of the
    largest gain first; without, all of them in their order.
    """
    columns = ("Layer", "Bound", "Compute", "DDR", "Overhead", "MAC/B", "Array", "Exposed", "Gain", "Change")
    numbers = ("Compute", "DDR", "Overhead", "MAC/B", "Array", "Exposed", "Gain")
    title = "Roofline: what bounds a layer, and what would help most"
    made = table(*columns, numbers=numbers, sentences=("Layer", "Change"), title=title)
    lines = session.roofline.layers
    for line in lines if shown is None else [lines[i] for i in shown]:
        b, advice = line.bound, line.advice
        if b.by == "none":
            continue
        bound = f"{b.by} ({b.engine})" if b.by == "compute" else b.by
        intensity = f"{b.intensity:.1f}" if b.macs and b.intensity is not None else ""
        use = f"{b.array_use:.0%}" if b.array_use else ""
        three = (in_time(b.compute_us), in_time(b.ddr_us), in_time(b.overhead_us))
        gain = in_time(advice.gain_us) if advice.gain_us else ""
        told = "; ".join(filter(None, (advice.text, b.idle)))
        add_row(
            made, _name(session, line), bound, *three, intensity, use, in_time(line.exposed_us), gain, told
        )
    cpu = session.roofline.cpu
    for c in cpu if top is None else sorted(cpu, key=lambda c: -c.gain_us)[:top]:
        name, told = session.program.segments[c.segment].name, f"{c.why}: {c.cure}"
        cells = (*[""] * 6, in_time(c.gain_us), f"{told} (estimate)")
        add_row(made, name, f"CPU ({c.by})", *cells, style="yellow")
    return made


def changes_table(session: Session) -> Table:
    """Return the changes that help the whole network, the best one first."""
    total = session.latency.bpu_us + session.latency.cpu_us
    title = "What would help most (each alone, the segments timed again)"
    made = table("Change", "Gain", "Share", numbers=("Gain", "Share"), sentences=("Change",), title=title)
    for c in session.roofline.changes[:_SHOWN_CHANGES]:
        add_row(made, c.text, in_time(c.gain_us), f"{c.gain_us / total:.1%}")
    return made
