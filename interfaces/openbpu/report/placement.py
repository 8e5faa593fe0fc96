"""Where every node runs and why: `Node | ON | Subgraph | Type | In/Out DataType | Reason | Fix`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from openbpu.arch.program import CpuCost, Placement
from openbpu.report.text import DASH, add_row, count, in_bytes, in_time, table

if TYPE_CHECKING:
    from rich.table import Table

_MILLI = 1000.0
_WHERE = "Module and source"
_COST = "Cost, estimate"
_COLUMNS = ("Node", "ON", "Subgraph", "Type", "In/Out DataType", "Reason", "Fix")


def subgraphs(placement: Sequence[Placement]) -> dict[int, str]:
    """Map the index of every BPU segment to the vendor's name for it: id(0), id(1), … in running order."""
    found = sorted({p.segment for p in placement if p.on == "BPU" and p.segment >= 0})
    return {segment: f"id({n})" for n, segment in enumerate(found)}


def placement_table(placement: Sequence[Placement]) -> Table:
    """Return the placement as a table; its last columns, where there are any: what nodes on the CPU cost, and
    module and source line.
    """
    names = subgraphs(placement)
    costly, known = any(p.cost.nodes for p in placement), any(p.scope or p.source for p in placement)
    more = [*([_COST] if costly else []), *([_WHERE] if known else [])]
    made = table(*_COLUMNS, *more, sentences=("Node", "Reason", "Fix", _COST, _WHERE))
    for p in placement:
        cost = [cost_text(p.cost)] if costly else []
        where = [" ".join(filter(None, (p.scope, p.source)))] if known else []
        subgraph = names.get(p.segment, DASH) if p.on == "BPU" else DASH
        style = "yellow" if p.on == "CPU" else None
        add_row(made, p.node, p.on, subgraph, p.op, p.dtypes, p.reason, p.fix, *cost, *where, style=style)
    return made


def cost_text(cost: CpuCost) -> str:
    """Return what a node on the CPU costs in words, nothing of one that costs nothing."""
    if not cost.nodes:
        return ""
    others = f", with {count(cost.nodes - 1, 'other')}" if cost.nodes > 1 else ""
    said = [f"splits a segment{others}"] if cost.splits else []
    said += [f"{in_bytes(cost.bytes_in)} to the CPU"] if cost.bytes_in else []
    said += [f"{in_bytes(cost.bytes_out)} back"] if cost.bytes_out else []
    handover = f" + {in_time(cost.handover_us)} hand-over" if cost.handover_us else ""
    return "; ".join([*said, f"{in_time(cost.cpu_us)}{handover}"])


def cost_json(cost: CpuCost) -> dict[str, Any] | None:
    """Return what a node on the CPU costs, None of one that costs nothing."""
    if not cost.nodes:
        return None
    return {
        "segments split": cost.splits,
        "bytes to the CPU": cost.bytes_in,
        "bytes back": cost.bytes_out,
        "cpu_ms_estimate": cost.cpu_us / _MILLI,
        "handover_ms_estimate": cost.handover_us / _MILLI,
        "nodes of its segment": cost.nodes,
        "text": cost_text(cost),
    }


def placement_summary(placement: Sequence[Placement]) -> str:
    """Return one sentence: how many nodes run where, and which kinds fell back."""
    on_cpu = Counter(p.op for p in placement if p.on == "CPU")
    bpu = len(placement) - on_cpu.total()
    parts = count(len(subgraphs(placement)), "subgraph")
    first = f"{bpu} of {count(len(placement), 'node')} on the BPU in {parts}"
    if not on_cpu:
        return first
    kinds = ", ".join(op if n == 1 else f"{n}× {op}" for op, n in on_cpu.most_common())
    return f"{first}; {on_cpu.total()} on the CPU ({kinds})"


def placement_json(placement: Sequence[Placement]) -> list[dict[str, Any]]:
    """Return the placement as JSON rows, with every field by name."""
    names = subgraphs(placement)
    return [
        {
            "node": p.node,
            "on": p.on,
            "subgraph": names.get(p.segment, DASH) if p.on == "BPU" else DASH,
            "type": p.op,
            "dtypes": p.dtypes,
            "reason": p.reason,
            "fix": p.fix,
            "cost": cost_json(p.cost),
            "scope": p.scope,
            "source": p.source,
        }
        for p in placement
    ]
