"""Maximal convex segments: nodes on the BPU and on the CPU in alternating stages.

The stage of a node is the least number, even on the BPU and odd on the CPU, not below the stages of the nodes
it reads. Nodes of one stage form one segment. No path leaves a stage and comes back, so segments run one
after another. A run starts on the BPU or on the CPU, whichever gives fewer segments: what the CPU computes
without the BPU then stands in front, and splits nothing. No convex partition has fewer segments: of all that
start on one side, the least numbers are the fewest. What is computed from constants alone waits for the stage
of its first reader: else a weight that the CPU dequantizes would cross to a later segment in every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from openbpu.compiler.ir import Graph, Node

_OUTSIDE = -2
"""The stage of those who run the model: they read its outputs."""

_ON_BPU, _ON_CPU = 1, -1
"""The first stage of CPU nodes, behind or in front of the first of the BPU."""


@dataclass(frozen=True, slots=True)
class Part:
    """One segment: its nodes in order, the values it reads from and hands to the rest of the model."""

    on_bpu: bool
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def partition(graph: Graph) -> tuple[Part, ...]:
    """Split the graph into segments in the order they run."""
    stage_of = min(
        (_latest(graph, _earliest(graph, start)) for start in (_ON_BPU, _ON_CPU)), key=_submissions
    )
    stages: dict[int, list[Node]] = {}
    readers: dict[str, set[int]] = {name: {_OUTSIDE} for name in graph.outputs}
    for node, stage in zip(graph.nodes, stage_of, strict=True):
        stages.setdefault(stage, []).append(node)
        for name in node.reads:
            readers.setdefault(name, set()).add(stage)
    return tuple(_part(graph, stages[s], readers, s) for s in sorted(stages))


def _submissions(stage_of: list[int]) -> tuple[int, int]:
    """Segments of a partition, and how many of them are the BPU's."""
    stages = set(stage_of)
    return len(stages), sum(stage % 2 == 0 for stage in stages)


def _earliest(graph: Graph, start: int) -> list[int]:
    """The first stage that a node can be in, by node; `start` is that of the CPU's first ones."""
    stage_of: list[int] = []
    of_value: dict[str, int] = {}
    for node in graph.nodes:
        stage = 0 if node.is_bpu else start
        for name in node.reads:
            before = of_value.get(name, stage)
            stage = max(stage, before if (before - stage) % 2 == 0 else before + 1)
        of_value.update((o, stage) for o in node.outputs if o)
        stage_of.append(stage)
    return stage_of


def _latest(graph: Graph, stage_of: list[int]) -> list[int]:
    """The same, but CPU nodes that read constants alone as late as their first reader allows."""
    late = list(stage_of)
    kept = set(graph.outputs)
    first: dict[str, int] = {}
    for index, alone in reversed(list(enumerate(_of_constants(graph)))):
        node = graph.nodes[index]
        asked = [first[o] for o in node.outputs if o in first]
        if alone and asked and kept.isdisjoint(node.outputs):
            late[index] = min(stage if stage % 2 else stage - 1 for stage in asked)
        for name in node.reads:
            first[name] = min(first.get(name, late[index]), late[index])
    return late


def _of_constants(graph: Graph) -> list[bool]:
    """Whether a node is on the CPU, and no input of the model nor the BPU has a part in what it reads."""
    varying, alone = set(graph.inputs), []
    for node in graph.nodes:
        alone.append(not node.is_bpu and varying.isdisjoint(node.reads))
        if not alone[-1]:
            varying.update(node.outputs)
    return alone


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
