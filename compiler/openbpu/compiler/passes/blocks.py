"""Scales given in blocks become scales per tensor or per channel, where they say no more than that.

DQ(w [16,12], s [1,12], axis 0, block_size 16)      becomes      DQ(w, s [12], axis 1)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from openbpu.compiler.ir import Array, Graph, Node, Rewriter
from openbpu.compiler.ir.qdq import is_dequantize, is_quantize


def is_blocked(graph: Graph, node: Node) -> bool:
    """Whether a Q or DQ has scales in blocks that stand for more than one scale per channel."""
    return bool(node.attrs.get("block_size", 0)) and _plain(graph, node) is None


def unblock(graph: Graph) -> Graph:
    """Return the graph with plain scales for every Q and DQ whose blocks cover an axis, or are all alike."""
    if not any(n.attrs.get("block_size", 0) for n in graph.nodes if is_quantize(n) or is_dequantize(n)):
        return graph
    rw = Rewriter(graph)
    for node in graph.nodes:
        qdq = is_quantize(node) or is_dequantize(node)
        plain = _plain(graph, node) if qdq and node.attrs.get("block_size", 0) else None
        rw.nodes.append(node if plain is None else _rewritten(rw, node, *plain))
    return rw.finish()


def _rewritten(rw: Rewriter, node: Node, axis: int, scale: Array, zero: Array | None) -> Node:
    attrs = {k: v for k, v in node.attrs.items() if k != "block_size"} | {"axis": axis}
    names = [rw.constant(f"{node.outputs[0]}/scale", scale)]
    if zero is not None:
        names.append(rw.constant(f"{node.outputs[0]}/zero", zero))
    return replace(node, inputs=(node.inputs[0], *names), attrs=attrs)


def _plain(graph: Graph, node: Node) -> tuple[int, Array, Array | None] | None:
    """Axis, scales and zero points of blocks that are one scale per channel of one axis; None for others."""
    scale = graph.const(node.inputs[1])
    has_zero = len(node.inputs) > 2 and bool(node.inputs[2])
    zero = graph.const(node.inputs[2]) if has_zero else None
    rank = len(graph.values[node.inputs[0]].shape or ())
    if scale is None or not rank or scale.ndim != rank or (has_zero and zero is None):
        return None
    parts = [scale] if zero is None else [scale, zero]
    varying = {axis for part in parts for axis in range(rank) if not _is_even(part, axis)}
    blocks = int(node.attrs.get("axis", 1)) % rank
    if len(varying) > 1 or blocks in varying:
        return None
    axis = next(iter(varying), 0)
    found = [_along(part, axis if varying else -1) for part in parts]
    return axis, found[0], found[1] if zero is not None else None


def _is_even(part: Array, axis: int) -> bool:
    """Whether all slices along an axis are alike."""
    first = np.take(part, [0], axis=axis)
    return bool((part.astype(np.float64) == first.astype(np.float64)).all())


def _along(part: Array, axis: int) -> Array:
    """The entries along an axis, [n]; the only one, [], for an axis of −1."""
    index = tuple(slice(None) if i == axis else 0 for i in range(part.ndim))
    return np.ascontiguousarray(part[index]) if axis >= 0 else np.asarray(part[index])
