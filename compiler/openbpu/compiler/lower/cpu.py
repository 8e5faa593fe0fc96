"""CPU segments: a part of the graph written back as ONNX, with an estimate of its work."""

from __future__ import annotations

from dataclasses import replace

from openbpu.arch.program import CpuSegment
from openbpu.compiler.ir import Graph, Node
from openbpu.compiler.lower.partition import Part
from openbpu.compiler.lower.signs import of_one_sign
from openbpu.compiler.lower.tensors import TensorTable
from openbpu.compiler.lower.widened import widened
from openbpu.compiler.lower.work import Work, work
from openbpu.compiler.reader import to_onnx


def cpu_segment(graph: Graph, part: Part, table: TensorTable, name: str) -> CpuSegment:
    """Return the segment with its ONNX model; constants it needs are copied into that model."""
    touched = [n for node in part.nodes for n in (*node.reads, *node.outputs) if n]
    names = dict.fromkeys([*part.inputs, *touched, *part.outputs])
    values = {n: graph.values[n] for n in names if n in graph.values}
    nodes, between = widened(graph, part.nodes)
    nodes, moved = of_one_sign(nodes, values)
    whole = replace(
        graph, values=values | between | moved, inputs=part.inputs, outputs=part.outputs, name=name
    )
    sub = whole.with_nodes(_uniquely_named(nodes))
    done = sum((work(n, graph.values, graph.opsets) for n in part.nodes), Work())
    return CpuSegment(
        name=name,
        model=to_onnx(sub).SerializeToString(deterministic=True),
        inputs=tuple(table.id_of(n) for n in part.inputs),
        outputs=tuple(table.id_of(n) for n in part.outputs),
        names_in=part.inputs,
        names_out=part.outputs,
        flops=done.flops,
        bytes_moved=done.moved,
        nodes=len(part.nodes),
    )


def _uniquely_named(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Return the nodes with names that ONNX Runtime takes: passes may have split one node into several."""
    seen: dict[str, int] = {}
    named = []
    for node in nodes:
        count = seen.get(node.name, 0)
        seen[node.name] = count + 1
        named.append(replace(node, name=f"{node.name}:{count}") if count else node)
    return tuple(named)
