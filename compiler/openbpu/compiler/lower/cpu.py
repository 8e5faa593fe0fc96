"""CPU segments: a part of the graph written back as ONNX, with an estimate of its work."""

from __future__ import annotations

from dataclasses import replace

from onnx import GraphProto

from openbpu.arch.errors import ModelError, must
from openbpu.arch.program import CpuSegment
from openbpu.compiler.ir import Graph, Node
from openbpu.compiler.lower.partition import Part
from openbpu.compiler.lower.signs import of_one_sign
from openbpu.compiler.lower.tensors import TensorTable
from openbpu.compiler.lower.widened import widened
from openbpu.compiler.lower.work import Work, work
from openbpu.compiler.reader import elements, to_onnx
from openbpu.compiler.reader.check import check_domain, check_domains

_NEVER_CROSS = frozenset({"bfloat16", "float4e2m1", "float6e2m3", "float6e3m2", *elements.SMALL_INTS})
"""Element types that ONNX Runtime neither takes from NumPy nor gives back; inside it may use them."""


def cpu_segment(graph: Graph, part: Part, table: TensorTable, name: str) -> CpuSegment:
    """Return the segment with its ONNX model; constants it needs are copied into that model.

    Raises ModelError for an operator that ONNX Runtime does not have.
    """
    for node in part.nodes:
        check_domain(f"node '{node.name}' ({node.op})", node.domain)
        for subgraph in (a for a in node.attrs.values() if isinstance(a, GraphProto)):
            check_domains(subgraph.node)
    for end in dict.fromkeys((*part.inputs, *part.outputs)):
        _check_end(graph, end, part)
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


def _check_end(graph: Graph, name: str, part: Part) -> None:
    """Refuse a tensor that would have to cross between ONNX Runtime and us in a type that NumPy lacks."""
    value = graph.values.get(name)
    if value is None or value.dtype not in _NEVER_CROSS:
        return
    whose = "input" if name in part.inputs else "output"
    allowed, fix = "a type that NumPy has", "Cast it to float32 or int8 in the model"
    where = f"a segment on the CPU: {whose} '{name}'"
    raise ModelError(must(where, "element type", allowed, value.dtype, fix))


def _uniquely_named(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Return the nodes with names that ONNX Runtime takes: passes may have split one node into several."""
    seen: dict[str, int] = {}
    named = []
    for node in nodes:
        count = seen.get(node.name, 0)
        seen[node.name] = count + 1
        named.append(replace(node, name=f"{node.name}:{count}") if count else node)
    return tuple(named)
