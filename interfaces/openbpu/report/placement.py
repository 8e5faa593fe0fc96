"""Where every node runs and why: `Node | ON | Subgraph | Type | In/Out DataType | Reason | Fix`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from openbpu.arch.program import Placement
from openbpu.report.text import DASH, add_row, count, table

if TYPE_CHECKING:
    from rich.table import Table

_WHERE = "Module and source"
_COLUMNS = ("Node", "ON", "Subgraph", "Type", "In/Out DataType", "Reason", "Fix")


def subgraphs(placement: Sequence[Placement]) -> dict[int, str]:
    """Map the index of every BPU segment to the vendor's name for it: id(0), id(1), … in running order."""
    found = sorted({p.segment for p in placement if p.on == "BPU" and p.segment >= 0})
    return {segment: f"id({n})" for n, segment in enumerate(found)}


def placement_table(placement: Sequence[Placement]) -> Table:
    """Return the placement as a table; its last column, if the model knows them: module and source line."""
    names = subgraphs(placement)
    known = any(p.scope or p.source for p in placement)
    made = table(*_COLUMNS, *([_WHERE] if known else []), sentences=("Node", "Reason", "Fix", _WHERE))
    for p in placement:
        where = [" ".join(filter(None, (p.scope, p.source)))] if known else []
        subgraph = names.get(p.segment, DASH) if p.on == "BPU" else DASH
        style = "yellow" if p.on == "CPU" else None
        add_row(made, p.node, p.on, subgraph, p.op, p.dtypes, p.reason, p.fix, *where, style=style)
    return made


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
            "scope": p.scope,
            "source": p.source,
        }
        for p in placement
    ]
