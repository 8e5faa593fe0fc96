"""CPU segments: a part of the graph written back as ONNX, with an estimate of its work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from openbpu.arch.program import CpuSegment
from openbpu.compiler.ir import Graph, Node
from openbpu.compiler.lower.partition import Part
from openbpu.compiler.lower.tensors import TensorTable
from openbpu.compiler.lower.widened import widened
from openbpu.compiler.reader import to_onnx

_PER_ELEMENT = (
    8  # operations an element costs in a transcendental or row function on a CPU, order of magnitude
)
_COSTLIER = {"Erf": 280, "Gelu": 310}
"""A scalar erf: some 30 cycles of a core that does 10 operations in one otherwise."""
_TENSOR_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_WIDTHS = {
    "float32": 4,
    "float64": 8,
    "int64": 8,
    "uint64": 8,
    "int32": 4,
    "uint32": 4,
    "string": 16,
} | dict.fromkeys(
    ("float16", "bfloat16", "int16", "uint16"), 2
)  # bytes of an element; everything else takes one byte or less
_FREE = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Shape", "Constant"})


def cpu_segment(graph: Graph, part: Part, table: TensorTable, name: str) -> CpuSegment:
    """Return the segment with its ONNX model; constants it needs are copied into that model."""
    touched = [n for node in part.nodes for n in (*node.reads, *node.outputs) if n]
    names = dict.fromkeys([*part.inputs, *touched, *part.outputs])
    values = {n: graph.values[n] for n in names if n in graph.values}
    nodes, between = widened(graph, part.nodes)
    sub = replace(
        graph,
        nodes=_uniquely_named(nodes),
        values=values | between,
        inputs=part.inputs,
        outputs=part.outputs,
        name=name,
    )
    return CpuSegment(
        name=name,
        model=to_onnx(sub).SerializeToString(deterministic=True),
        inputs=tuple(table.id_of(n) for n in part.inputs),
        outputs=tuple(table.id_of(n) for n in part.outputs),
        names_in=part.inputs,
        names_out=part.outputs,
        flops=sum(_flops(graph, n) for n in part.nodes),
        bytes_moved=sum(_bytes(graph, n) for n in part.nodes),
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


def _size(graph: Graph, name: str) -> int:
    value = graph.values.get(name)
    return value.size if value is not None and value.shape is not None else 0


def _flops(graph: Graph, node: Node) -> int:
    """Arithmetic of a node: 2 per multiply-accumulate, a few per element otherwise."""
    if node.op in _FREE:
        return 0
    out = sum(_size(graph, o) for o in node.outputs if o)
    if node.op in _TENSOR_OPS:
        shape = graph.values[node.inputs[1]].shape or (1,)
        taps = int(np.prod(shape[1:])) if node.op.startswith("Conv") else shape[0 if len(shape) == 1 else -2]
        if node.op == "ConvTranspose":
            out = _size(graph, node.inputs[0])
        return 2 * out * taps
    return _COSTLIER.get(node.op, _PER_ELEMENT) * max(
        out, max((_size(graph, i) for i in node.inputs if i), default=0)
    )


def _bytes(graph: Graph, node: Node) -> int:
    if node.op in _FREE:
        return 0
    total = 0
    for name in (*node.inputs, *node.outputs):
        value = graph.values.get(name) if name else None
        if value is not None and value.shape is not None:
            total += value.size * _WIDTHS.get(value.dtype, 1)
    return total
