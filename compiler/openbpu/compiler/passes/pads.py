"""Borders of zeros become the convolution's own padding.

Pad(x, value = x's zero) → Conv      becomes      Conv with larger pads, as TensorFlow's exports want
"""

from __future__ import annotations

from collections.abc import Iterator

from openbpu.arch.errors import must
from openbpu.compiler.ir import Graph, Node, Rewriter
from openbpu.compiler.ir.verify import ensures

_SPATIAL = (1, 2)


def without_borders(graph: Graph) -> Iterator[str]:
    """No convolution reads a border that it could pad itself."""
    pads = _borders(graph)
    for node in graph.nodes:
        if _folded(node, pads) is not node:
            yield must(f"node '{node.name}'", "its border", "its own padding", f"'{node.inputs[0]}'")


@ensures(without_borders)
def fold_pads(graph: Graph) -> Graph:
    """Return the graph whose convolutions pad themselves; a Pad that others read too stays for them."""
    rw, pads = Rewriter(graph), _borders(graph)
    rw.nodes.extend(_folded(node, pads) for node in graph.nodes)
    return rw.finish()


def _borders(graph: Graph) -> dict[str, Node]:
    """The Pad of rows and columns behind every value that is one, or an idle reshape of one."""
    pads: dict[str, Node] = {}
    for node in graph.nodes:
        if node.is_bpu and node.op == "Pad" and _is_border(node):
            pads[node.outputs[0]] = node
        elif node.is_bpu and node.op == "Reshape" and _is_idle(graph, node) and node.inputs[0] in pads:
            pads[node.outputs[0]] = pads[node.inputs[0]]
    return pads


def _is_idle(graph: Graph, node: Node) -> bool:
    return graph.values[node.inputs[0]].shape == graph.values[node.outputs[0]].shape


def _is_border(node: Node) -> bool:
    """Whether a Pad of N, H, W, C adds rows and columns only."""
    before, after = node.attrs["before"], node.attrs["after"]
    return len(before) == 4 and not any(before[a] or after[a] for a in range(4) if a not in _SPATIAL)


def _folded(node: Node, pads: dict[str, Node]) -> Node:
    pad = pads.get(node.inputs[0]) if node.is_bpu and node.op == "Conv" else None
    if pad is None or node.attrs.get("pad_value", 0) != pad.attrs["value"]:
        return node
    if tuple(node.attrs.get("upsample", (1, 1))) != (1, 1):
        return node
    before, after = pad.attrs["before"], pad.attrs["after"]
    top, left, bottom, right = node.attrs["pads"]
    grown = (top + before[1], left + before[2], bottom + after[1], right + after[2])
    origins = (*pad.origins, *(o for o in node.origins if o not in pad.origins))
    inputs = (pad.inputs[0], *node.inputs[1:])
    return Node(node.op, inputs, node.outputs, {**node.attrs, "pads": grown}, node.name, node.domain, origins)
