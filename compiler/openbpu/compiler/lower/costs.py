"""What every node on the CPU costs: the segment it splits, the bytes that cross for it, its time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from openbpu.arch.march import March
from openbpu.arch.program import CpuCost
from openbpu.arch.timing.cpu import cpu_parts_of
from openbpu.compiler.ir import Graph, Node
from openbpu.compiler.lower.partition import Part
from openbpu.compiler.lower.work import nbytes, work

Costs = Mapping[tuple[int, str], CpuCost]
"""By segment and name of the user's node."""


@dataclass(frozen=True, slots=True)
class _Sides:
    """The values that the BPU makes, and those it reads."""

    made: frozenset[str]
    read: frozenset[str]


def cpu_costs(graph: Graph, parts: Sequence[Part], march: March) -> Costs:
    """Return what every node of a CPU segment costs.

    A segment between two of the BPU makes two of what would be one; its hand-over is that of all its nodes.
    """
    on_bpu = [part for part in parts if part.on_bpu]
    sides = _Sides(
        frozenset(o for part in on_bpu for o in part.outputs),
        frozenset(i for part in on_bpu for i in part.inputs),
    )
    found: dict[tuple[int, str], CpuCost] = {}
    for index, part in enumerate(parts):
        if part.on_bpu:
            continue
        between = any(p.on_bpu for p in parts[:index]) and any(p.on_bpu for p in parts[index + 1 :])
        for node in part.nodes:
            cost = _cost(graph, node, sides, march, between=between)
            for origin in node.origins[:1]:
                key = (index, origin.name)
                found[key] = _together(found[key], cost) if key in found else cost
    return _shared(found)


def _cost(graph: Graph, node: Node, sides: _Sides, march: March, *, between: bool) -> CpuCost:
    done = work(node, graph.values, graph.opsets)
    parts = cpu_parts_of(march.cpu, 1, done.flops, done.moved, between=between)
    return CpuCost(
        splits=int(between),
        bytes_in=_bytes(graph, sides.made.intersection(node.reads)),
        bytes_out=_bytes(graph, sides.read.intersection(node.outputs)),
        cpu_us=parts.busy_us,
        handover_us=parts.handover_us,
        nodes=1,
    )


def _bytes(graph: Graph, names: Iterable[str]) -> int:
    return sum(nbytes(graph.values, name) for name in names)


def _together(one: CpuCost, other: CpuCost) -> CpuCost:
    """The cost of a node that became several in one segment."""
    return replace(
        one,
        bytes_in=one.bytes_in + other.bytes_in,
        bytes_out=one.bytes_out + other.bytes_out,
        cpu_us=one.cpu_us + other.cpu_us,
    )


def _shared(costs: dict[tuple[int, str], CpuCost]) -> Costs:
    """Tell every node with how many of the user's nodes it shares its segment."""
    counts: dict[int, int] = {}
    for segment, _ in costs:
        counts[segment] = counts.get(segment, 0) + 1
    return {key: replace(cost, nodes=counts[key[0]]) for key, cost in costs.items()}
