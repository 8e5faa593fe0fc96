"""Maximal convex segments: nodes on the BPU and on the CPU in alternating stages.

The stage of a node is the least number, even on the BPU and odd on the CPU, not below the stages of the nodes
it reads. Nodes of one stage form one segment. No path leaves a stage and comes back, so segments run one
after another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from openbpu.compiler.ir import Graph, Node

_OUTSIDE = -1
"""The stage of those who run the model: they read its outputs."""


@dataclass(frozen=True, slots=True)
class Part:
    """One segment: its nodes in order, the values it reads from and hands to the rest of the model."""

    on_bpu: bool
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def partition(graph: Graph) -> tuple[Part, ...]:
    """Split the graph into segments in the order they run."""
    stages: dict[int, list[Node]] = {}
    of_value: dict[str, int] = {}
    readers: dict[str, set[int]] = {name: {_OUTSIDE} for name in graph.outputs}
    for node in graph.nodes:
        stage = 0 if node.is_bpu else 1
        for name in node.reads:
            before = of_value.get(name, stage)
            stage = max(stage, before if (before - stage) % 2 == 0 else before + 1)
        stages.setdefault(stage, []).append(node)
        of_value.update((o, stage) for o in node.outputs if o)
        for name in node.reads:
            readers.setdefault(name, set()).add(stage)
    return tuple(_part(graph, stages[s], readers, s) for s in sorted(stages))


def _part(graph: Graph, nodes: list[Node], readers: Mapping[str, set[int]], stage: int) -> Part:
    """The nodes of a stage as a segment; `readers`: the stages that read a value."""
    made = {o for n in nodes for o in n.outputs if o}
    read: dict[str, None] = {}
    for node in nodes:
        for name in node.reads:
            value = graph.values.get(name)
            if name not in made and value is not None and value.const is None:
                read[name] = None
    handed = tuple(o for n in nodes for o in n.outputs if readers.get(o, set()) - {stage})
    return Part(nodes[0].is_bpu, tuple(nodes), tuple(read), handed)
