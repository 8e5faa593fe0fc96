"""Finds the nodes of a net that are together one of the functions looked for.

Every node that ends an arithmetic expression is tried as the end of a pattern, the last first, so that of two
patterns in one another the larger is found; and for it every tensor in front of the reductions behind it is
tried as the x that it is a function of, the farthest first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from openbpu.quantization.onnx.net import Net, Shape
from openbpu.quantization.onnx.patterns.norms import Norm, as_norm
from openbpu.quantization.onnx.patterns.reading import READ, Reader
from openbpu.quantization.onnx.patterns.softmax import Softmax, as_softmax
from openbpu.quantization.onnx.patterns.whole import Grouped, whole

_ENDS = {"Add", "Cast", "Div", "Exp", "Log", "Mul", "Neg", "Sub", "Sum"}
_REDUCES = {
    *("GlobalAveragePool", "LogSoftmax", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax"),
    *("ReduceMean", "ReduceSum", "ReduceSumSquare", "Softmax"),
}
_DEEP = 20
"""Steps from the end of a pattern to its first reduction, at most."""

_BEFORE = 3
"""Steps from a reduction back to x, at most: Cast, Abs or Sub, and the square."""


@dataclass(frozen=True, slots=True)
class Match:
    """`nodes` (indices) with the end `root` compute `what` of the tensor `x`."""

    root: int
    nodes: frozenset[int]
    x: str
    what: Norm | Softmax | Grouped


def find(net: Net) -> list[Match]:
    """Return the patterns of `net`, none of which shares a node with another."""
    producers, readers = net.producers(), net.consumers()
    taken: set[int] = set()
    found: list[Match] = []
    for root in reversed(range(len(net.nodes))):
        if root in taken:
            continue
        match = _single(net, root) or _written_out(net, root, producers, readers, taken)
        if match is not None:
            taken |= match.nodes
            found.append(match)
    return found


def _single(net: Net, root: int) -> Match | None:
    what = whole(net.nodes[root], net)
    return None if what is None else Match(root, frozenset({root}), net.nodes[root].input[0], what)


def _written_out(
    net: Net, root: int, producers: Mapping[str, int], readers: Mapping[str, list[int]], taken: set[int]
) -> Match | None:
    node = net.nodes[root]
    if node.op_type not in _ENDS or not net.is_live(node.output[0]):
        return None
    shape = net.shapes.get(node.output[0])
    for x in _candidates(net, root, producers):
        if not net.is_live(x) or not _alike(shape, net.shapes.get(x)):
            continue
        reader = Reader(net, x, producers)
        view = reader.view(node.output[0])
        if view is None or not view.is_whole or len(reader.nodes) < 2:
            continue
        what = as_norm(view.formula) or as_softmax(view.formula, reader.shape)
        nodes = frozenset(reader.nodes)
        fits = isinstance(what, Softmax) or (what is not None and what.fits(reader.shape))
        if what is not None and fits and not nodes & taken and _is_closed(net, root, nodes, readers):
            return Match(root, nodes, x, what)
    return None


def _alike(a: Shape | None, b: Shape | None) -> bool:
    """Whether two shapes may be the same: free axes may have lost their names."""
    if a is None or b is None or len(a) != len(b):
        return False
    return all(p == q or not (isinstance(p, int) and isinstance(q, int)) for p, q in zip(a, b, strict=True))


def _is_closed(net: Net, root: int, nodes: frozenset[int], readers: Mapping[str, list[int]]) -> bool:
    """Whether nobody else reads what is computed inside."""
    inner = [name for index in nodes if index != root for name in net.nodes[index].output if name]
    return not any(name in net.outputs or not nodes.issuperset(readers.get(name, ())) for name in inner)


def _candidates(net: Net, root: int, producers: Mapping[str, int]) -> list[str]:
    """Return the tensors that reductions behind `root` may be functions of, in the order of the graph."""
    found: dict[str, None] = {}
    for index in _behind(net, root, producers):
        if net.nodes[index].op_type in _REDUCES:
            found.update(dict.fromkeys(_sources(net, net.nodes[index].input[0], producers)))
    return sorted(found, key=lambda name: producers.get(name, -1))


def _behind(net: Net, root: int, producers: Mapping[str, int]) -> Iterator[int]:
    """Yield the nodes that `root` is computed by, as far as they can be read."""
    front, seen = {root}, {root}
    for _ in range(_DEEP):
        inputs = {name for index in front for name in net.nodes[index].input if name in producers}
        front = {producers[name] for name in inputs} - seen
        front = {index for index in front if net.nodes[index].op_type in READ}
        seen |= front
        yield from sorted(front)


def _sources(net: Net, tensor: str, producers: Mapping[str, int]) -> Iterator[str]:
    """Yield `tensor` and what it is made of, a few steps back."""
    front = [tensor]
    for _ in range(_BEFORE + 1):
        yield from front
        made = [net.nodes[producers[name]] for name in front if name in producers]
        front = [
            name
            for node in made
            if node.op_type in READ
            for name in node.input
            if name not in net.consts and name
        ]
