"""Where the time of a run goes by type of operator."""

from __future__ import annotations

from collections import Counter
from typing import Any

from openbpu.arch.program import Program
from openbpu.report.layers import LayerCost
from openbpu.runtime import Latency

MOVE = "layout move"
"""Data brought into another order, in front of or behind an operator that needs it so."""
_MOVES = {"Reshape", "Transpose"}
_PARTS = ("compute_us", "load_us", "store_us", "cpu_us")


def operator_types(program: Program, layers: list[LayerCost], latency: Latency) -> list[dict[str, Any]]:
    """Return µs by type, as if nothing overlapped, the longest first; what is on the CPU is one estimate.

    The type of a layer is that of the first node of the user's model in it.
    """
    types = {p.node: p.op for p in program.placement}
    kinds = {entry.name: entry.op for entry in program.debug}
    groups: dict[str, list[LayerCost]] = {}
    for cost in layers:
        groups.setdefault(_type(cost, types, kinds), []).append(cost)
    rows = [_row(name, len(found), _sums(found)) for name, found in groups.items()]
    if latency.cpu_us:
        on_cpu = Counter(p.op for p in program.placement if p.on == "CPU")
        rows.append(_row(f"CPU ({', '.join(on_cpu)})", on_cpu.total(), (0.0, 0.0, 0.0, latency.cpu_us)))
    return sorted(rows, key=lambda row: -sum(row[part] for part in _PARTS))


def _type(cost: LayerCost, types: dict[str, str], kinds: dict[str, str]) -> str:
    kind = kinds.get(cost.name, cost.name.partition(".")[0])
    found = next((types[name] for name in cost.origins if name in types), kind)
    return MOVE if kind in _MOVES and found not in _MOVES else found


def _sums(found: list[LayerCost]) -> tuple[float, ...]:
    return (
        sum(cost.compute_us for cost in found),
        sum(cost.load_us for cost in found),
        sum(cost.store_us for cost in found),
        0.0,
    )


def _row(name: str, layers: int, us: tuple[float, ...]) -> dict[str, Any]:
    return {"type": name, "layers": layers, **{k: round(v, 3) for k, v in zip(_PARTS, us, strict=True)}}
