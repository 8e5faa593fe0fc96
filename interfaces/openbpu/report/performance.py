"""The performance report: the vendor's JSON with its keys, and the same as tables.

The figures in `summary` are the BPU's alone, as the vendor's are; what the CPU takes stands in `openbpu`, as
an estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from openbpu.arch.isa import Engine
from openbpu.report.info import memory_of
from openbpu.report.intervals import intervals
from openbpu.report.kinds import operator_types
from openbpu.report.latency import estimates_json, latency_json, latency_table
from openbpu.report.layers import LayerCost, TimedSegment, layer_costs, timed_segments
from openbpu.report.occupancy import memory_json
from openbpu.report.placement import placement_json, placement_summary
from openbpu.report.roofline import changes_table, roofline_json, roofline_table
from openbpu.report.text import add_row, in_bytes, in_time, table
from openbpu.runtime import Session

if TYPE_CHECKING:
    from rich.table import Table

_US = 1e6
_MEGA = 1e6
_MILLI = 1e3
TOP = 10
"""Layers that a report for people begins with."""
SortKey = Literal["cost", "compute", "ddr", "exposed", "gain", "order"]
_SORTED: dict[SortKey, str] = {
    "cost": "those that cost most first, as if nothing overlapped",
    "compute": "those that compute longest first",
    "ddr": "those whose transfers take longest first",
    "exposed": "those without which the run would be shortest first",
    "gain": "those where a change would gain most first",
    "order": "in the order of the network",
}
_PAIRS = {
    "double int8 macs": "int8xint8",
    "feature int16 weight int8 macs": "int16xint8",
    "feature int8 weight int16 macs": "int8xint16",
}


def performance_json(session: Session) -> dict[str, Any]:
    """Simulate the program and return the report under the vendor's keys; `openbpu` holds the rest."""
    segments = timed_segments(session.program, session.latency)
    layers = layer_costs(session.program, segments)
    return {
        "summary": {
            "performance": _performance(session),
            "DDR access data": _ddr(session, segments),
            "interval info": _intervals(session, segments),
            "layer details": [_layer(cost, session.latency.bpu_us) for cost in layers],
            "model info": _model(session),
        },
        "coreSummaryGroup": _cores(segments),
        "details": _details(session, segments),
        "openbpu": {
            "latency": latency_json(session.latency),
            "estimates": estimates_json(session),
            "working cores": session.program.working_cores,
            "L2M": _l2m(segments),
            "on-chip bytes": {"used": memory_of(session)["chip"], "of": session.march.chip_bytes},
            "operator types": operator_types(session.program, layers, session.latency),
            "memory over time": memory_json(session.program, segments),
            "roofline": roofline_json(session),
            "placement": {
                "summary": placement_summary(session.placement),
                "nodes": placement_json(session.placement),
            },
        },
    }


def _performance(session: Session) -> dict[str, Any]:
    us = session.latency.bpu_us
    return {
        "FPS": round(session.latency.fps, 2),
        "latency (us)": round(us, 3),
        "latency (ms)": round(us / _MILLI, 6),
        "latency (us) by segments": [
            round(s.microseconds, 3) for s in session.latency.segments if s.on == "BPU"
        ],
    }


def _ddr(session: Session, segments: list[TimedSegment]) -> dict[str, Any]:
    loaded = sum(s.timing.loaded for s in segments)
    stored = sum(s.timing.stored for s in segments)
    memory = memory_of(session)
    return {
        "DDR megabytes per run": round((loaded + stored) / _MEGA, 6),
        "loaded bytes per run": loaded,
        "stored bytes per run": stored,
        "min memory requirement": memory["static"] + memory["dynamic"],
        "input memory": memory["input"],
        "output memory": memory["output"],
        "static memory": memory["static"],
        "dynamic memory": memory["dynamic"],
    }


def _l2m(segments: list[TimedSegment]) -> dict[str, int]:
    """Return what programs compiled with --max-l2m-size use of the L2M."""
    return {
        "bytes moved per run": sum(s.timing.shared for s in segments),
        "bytes used": max((s.segment.l2m_bytes for s in segments), default=0),
    }


def _intervals(session: Session, segments: list[TimedSegment]) -> dict[str, Any]:
    cut = intervals(segments)
    seconds = cut.cycles / session.march.clock_hz
    rate = 1 / seconds / _MEGA if seconds else 0.0
    return {
        "interval number": len(cut.utilization),
        "interval time (ms)": round(seconds * _MILLI, 9),
        "interval computing unit utilization": [round(u, 4) for u in cut.utilization.tolist()],
        "interval ddr loading bandwidth (megabytes/s)": [round(b * rate, 1) for b in cut.loaded.tolist()],
        "interval ddr storing bandwidth (megabytes/s)": [round(b * rate, 1) for b in cut.stored.tolist()],
    }


def _layer(cost: LayerCost, total_us: float) -> dict[str, Any]:
    return {
        "layer name": cost.name,
        "active period of time": f"{cost.start_us:.1f} ~ {cost.end_us:.1f} us",
        "computing cost (no DDR)": _share(cost.compute_us, total_us),
        "load cost": _share(cost.load_us, total_us),
        "store cost": _share(cost.store_us, total_us),
        "origin ops": list(cost.origins),
    }


def _share(us: float, total_us: float) -> str:
    return f"{us:.3g} us ({us / total_us if total_us else 0:.1%} of model)"


def _model(session: Session) -> dict[str, Any]:
    macs = dict(session.program.macs)
    return {
        "BPU march": session.program.march,
        "BPU core number": session.program.cores,
        "compiling options": " ".join(f"{k}={v}" for k, v in session.program.options),
        **{name: macs.get(pair, 0) for name, pair in _PAIRS.items()},
        "original conv ops": 2 * sum(macs.values()),
    }


def _cores(segments: list[TimedSegment]) -> list[dict[str, Any]]:
    """Return, by core, how long each engine worked and waited over all segments."""
    total = sum(s.timing.cycles for s in segments)
    groups = []
    for core in range(max((len(s.timing.cores) for s in segments), default=0)):
        used = [s.timing for s in segments if core < len(s.timing.cores)]
        busy = {e: sum(int(t.busy[core, e]) for t in used) for e in Engine}
        stalls = {e: sum(int(t.stalls[core, e]) for t in used) for e in Engine}
        groups.append(
            {
                "core": core,
                "busy cycles": {e.name: busy[e] for e in Engine},
                "stalled cycles": {e.name: stalls[e] for e in Engine},
                "utilization": {e.name: round(busy[e] / total, 4) if total else 0.0 for e in Engine},
            }
        )
    return groups


def _details(session: Session, segments: list[TimedSegment]) -> list[list[dict[str, Any]]]:
    """Return every instruction of every core in code order, as the vendor's viewer takes them."""
    cycle = _US / session.march.clock_hz
    details: list[list[dict[str, Any]]] = [
        [] for _ in range(max((len(s.timing.cores) for s in segments), default=0))
    ]
    for s in segments:
        names = _names(session, s)
        for core, rows in zip(s.timing.cores, details, strict=False):
            columns = (
                core.engine.tolist(),
                core.operator.tolist(),
                core.start.tolist(),
                core.duration.tolist(),
            )
            rows += [
                {
                    "inst_type": Engine(engine).name,
                    "source_layer_names": names[operator],
                    "start_time (us)": round((start + s.offset) * cycle, 4),
                    "working_time (us)": round(duration * cycle, 4),
                }
                for engine, operator, start, duration in zip(*columns, strict=True)
            ]
    return details


def _names(session: Session, timed: TimedSegment) -> list[list[str]]:
    debug = session.program.debug
    names = (debug[op.node].name if op.node >= 0 else type(op).__name__ for op in timed.segment.operators)
    return [[name] for name in names]


def performance_tables(
    session: Session, *, top: int | None = TOP, sort: SortKey = "cost"
) -> list[Table | str]:
    """Return the report for people: figures, latency, what would help, and of the layers the first `top`.

    top: None shows every layer · sort: what makes a layer come first.
    """
    segments = timed_segments(session.program, session.latency)
    costs = layer_costs(session.program, segments)
    shown = _sorted_layers(session, costs, sort)[:top]
    told = "Layers, " + _SORTED[sort]
    if len(shown) < len(costs):
        told += f": {len(shown)} of {len(costs)} (--all shows every one; -o DIR writes them as JSON and HTML)"
    return [
        _figures(session, segments),
        latency_table(session.latency, top),
        changes_table(session),
        _engine_table(segments),
        _layer_table([costs[i] for i in shown], session.latency.bpu_us, told),
        roofline_table(session, shown, top),
    ]


def _sorted_layers(session: Session, costs: list[LayerCost], sort: SortKey) -> list[int]:
    """Return the indices of the layers in the order that was asked for; equal ones in that of the network."""
    lines = session.roofline.layers
    measures: dict[SortKey, Callable[[int], float]] = {
        "cost": lambda i: costs[i].compute_us + costs[i].load_us + costs[i].store_us,
        "compute": lambda i: costs[i].compute_us,
        "ddr": lambda i: costs[i].load_us + costs[i].store_us,
        "exposed": lambda i: lines[i].exposed_us,
        "gain": lambda i: lines[i].advice.gain_us,
        "order": lambda _: 0.0,
    }
    return sorted(range(len(costs)), key=lambda i: -measures[sort](i))


def _figures(session: Session, segments: list[TimedSegment]) -> str:
    if not segments:
        return f"{session.program.name}: nothing runs on the BPU"
    performance, ddr = _performance(session), _ddr(session, segments)
    program = session.program
    on = f"{program.working_cores} of {program.cores} cores of " if program.cores > 1 else ""
    batch = f" of {session.latency.images} images" if session.latency.images > 1 else ""
    return (
        f"{program.name} on {on}{program.march}: FPS={performance['FPS']}, "
        f"latency = {performance['latency (us)']} us{batch}, "
        f"DDR = {ddr['loaded bytes per run'] + ddr['stored bytes per run']} bytes (BPU only)"
    )


def _layer_table(costs: list[LayerCost], total_us: float, title: str) -> Table:
    known = any(c.scope or c.source for c in costs)
    columns = ("Layer", "Active", "Compute", "Share", "Load", "Store", "Engine", "DDR", "Nodes")
    numbers = ("Active", "Compute", "Share", "Load", "Store", "DDR")
    made = table(*columns, *(["Module and source"] if known else []), numbers=numbers, title=title)
    for c in costs:
        share = f"{c.compute_us / total_us:.1%}" if total_us else ""
        where = [" ".join(filter(None, (c.scope, c.source)))] if known else []
        times = (in_time(c.compute_us), share, in_time(c.load_us), in_time(c.store_us))
        active = f"{c.start_us:.1f} ~ {c.end_us:.1f} µs"
        add_row(
            made,
            c.name,
            active,
            *times,
            c.engine,
            in_bytes(c.loaded + c.stored),
            ", ".join(c.origins),
            *where,
        )
    return made


def _engine_table(segments: list[TimedSegment]) -> Table:
    made = table(
        "Engine", "Busy", "Stalled", numbers=("Busy", "Stalled"), title="Share of the BPU's time, all cores"
    )
    total = sum(s.timing.cycles * len(s.timing.cores) for s in segments)
    for e in Engine:
        busy = sum(int(s.timing.busy[:, e].sum()) for s in segments)
        stalled = sum(int(s.timing.stalls[:, e].sum()) for s in segments)
        if busy or stalled:
            add_row(made, e.name, f"{busy / total:.1%}", f"{stalled / total:.1%}")
    return made
