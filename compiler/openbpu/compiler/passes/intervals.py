"""Between which reals a float of the graph lies, whatever the inputs are: what an intermediate has to hold.

Exact for the codes in front and the constants between: sums of positive and of negative products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Float64
from openbpu.arch.numerics.functions import POINTWISE
from openbpu.arch.onnx_ops import MOVES
from openbpu.compiler.ir import Graph, Node
from openbpu.compiler.ir.qdq import is_dequantize
from openbpu.compiler.ops import Site
from openbpu.compiler.ops.elementwise import batch_norm
from openbpu.compiler.ops.site import doubles

Interval = tuple[float, float]
_SAMPLES = 1025
_BETWEEN = MOVES | {
    "AveragePool",
    "Concat",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "MaxPool",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "Resize",
}
"""What lies between the least and the largest element of their data, and 0 where they pad."""

_CORNERS = frozenset({"Add", "Max", "Min", "Mul", "PRelu", "Sub", "Sum"})
"""What is largest and smallest where its operands are."""


@dataclass(slots=True)
class Intervals:
    """Intervals of the floats of a graph, each worked out once; `site` reads it."""

    site: Site
    known: dict[str, Interval | None] = field(default_factory=dict)

    def of(self, name: str, depth: int = 0) -> Interval | None:
        """Return the interval of a float; None where nothing is known."""
        if name not in self.known:
            found = self._of(name, depth) if depth < 32 else None
            finite = found is not None and np.isfinite(found).all()
            self.known[name] = found if finite else None
        return self.known[name]

    @property
    def graph(self) -> Graph:
        """The graph."""
        return self.site.graph

    def _of(self, name: str, depth: int) -> Interval | None:
        data = self.graph.const(name)
        if data is not None:
            return _ends(doubles(data)) if data.dtype.kind in "fiu" and data.size else None
        node = self.site.producers.get(name)
        if node is None or node.domain:
            return None
        if is_dequantize(node):
            return self.of_codes(name)
        rule = _RULES.get(node.op)
        if rule is not None:
            return rule(self, node, depth)
        if node.op in _BETWEEN:
            return self.between(node, depth)
        return self.of_function(node, depth) if node.op in POINTWISE else None

    def of_codes(self, name: str) -> Interval | None:
        """What the codes behind a float stand for."""
        leaf = self.site.leaf_or_none(name)
        if leaf is None or leaf.dtype == "int32" or not leaf.scaling.per_tensor:
            return None
        info = np.iinfo(leaf.dtype)
        codes = np.array([info.min, info.max]) if leaf.const is None else leaf.const.astype(np.float64)
        return _ends((codes - leaf.z) * leaf.s)

    def between(self, node: Node, depth: int) -> Interval | None:
        """The union of the intervals of a node's data, and 0."""
        names = node.inputs if node.op == "Concat" else node.inputs[:1]
        ends = [self.of(n, depth + 1) for n in names]
        if any(e is None for e in ends):
            return None
        found = [e for e in ends if e is not None]
        return min(0.0, *(e[0] for e in found)), max(0.0, *(e[1] for e in found))

    def of_function(self, node: Node, depth: int) -> Interval | None:
        """Sample an operator over its one operand that varies, or at the corners of several."""
        ends = [self.of(n, depth + 1) if n else (0.0, 0.0) for n in node.inputs]
        found = [e for e in ends if e is not None]
        varying = sum(e[0] != e[1] for e in found)
        if len(found) < len(ends) or (varying > 1 and node.op not in _CORNERS):
            return None
        count = _SAMPLES if varying == 1 else 3
        grids = np.meshgrid(*(np.linspace(*e, count if e[0] != e[1] else 1) for e in found))
        operands = [numerics.Real.of(g) if n else None for g, n in zip(grids, node.inputs, strict=True)]
        with np.errstate(all="ignore"):
            made = numerics.pointwise(node.op, node.attrs, *operands).exact
        return None if np.isnan(made).any() else _widened(_ends(made))


def _of_product(intervals: Intervals, node: Node, depth: int) -> Interval | None:
    """Σ of the larger of w·low and w·high, per output channel, with the bias."""
    x = intervals.of(node.inputs[0], depth + 1)
    site = replace(intervals.site, node=node)
    w, bias = site.constant(1), site.constant(2)
    if x is None or (w is None and node.op != "MatMul"):
        return None
    if w is None:
        return _of_computed(intervals, node, x, depth)
    if bias is None and site.has(2):
        return None
    low, high = min(x[0], 0.0), max(x[1], 0.0)  # what pads is 0
    positive, negative = np.maximum(w, 0), np.minimum(w, 0)
    axes = _summed(node, w.ndim)
    if axes is None:
        return None
    most = (positive * high + negative * low).sum(axes)
    least = (positive * low + negative * high).sum(axes)
    alpha = float(node.attrs.get("alpha", 1.0)) if node.op == "Gemm" else 1.0
    ends = _ends(np.stack([most * alpha, least * alpha]))
    add = (0.0, 0.0) if bias is None else _ends(bias * float(node.attrs.get("beta", 1.0)))
    return ends[0] + add[0], ends[1] + add[1]


def _of_computed(intervals: Intervals, node: Node, x: Interval, depth: int) -> Interval | None:
    y, shape = intervals.of(node.inputs[1], depth + 1), intervals.graph.values[node.inputs[0]].shape
    if y is None or not shape:
        return None
    reach = shape[-1] * max(map(abs, x)) * max(map(abs, y))
    return -reach, reach


def _summed(node: Node, rank: int) -> tuple[int, ...] | None:
    """The axes of a weight that a product sums over."""
    if node.op == "Conv":
        return tuple(range(1, rank))
    if node.op == "ConvTranspose":
        return (0, *range(2, rank))
    if node.op == "Gemm":
        return (1,) if node.attrs.get("transB", 0) else (0,)
    return (rank - 2,) if rank >= 2 else None


def _of_batch_norm(intervals: Intervals, node: Node, depth: int) -> Interval | None:
    x, affine = intervals.of(node.inputs[0], depth + 1), batch_norm(replace(intervals.site, node=node))
    if x is None or affine is None:
        return None
    return _ends(np.stack([affine[0] * x[0] + affine[1], affine[0] * x[1] + affine[1]]))


def _of_softmax(_: Intervals, __: Node, ___: int) -> Interval | None:
    return 0.0, 1.0


def _of_sum(intervals: Intervals, node: Node, depth: int) -> Interval | None:
    x = intervals.of(node.inputs[0], depth + 1)
    before, after = (intervals.graph.values[n].shape for n in (node.inputs[0], node.outputs[0]))
    if x is None or before is None or after is None:
        return None
    count = int(np.prod(before)) / max(int(np.prod(after)), 1)
    return x[0] * count, x[1] * count


_RULES: dict[str, Callable[[Intervals, Node, int], Interval | None]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), _of_product),
    "BatchNormalization": _of_batch_norm,
    "ReduceSum": _of_sum,
    "Softmax": _of_softmax,
}


def _ends(values: Float64) -> Interval:
    return float(values.min()), float(values.max())


def _widened(ends: Interval) -> Interval:
    """Room for what lies between samples."""
    room = (ends[1] - ends[0]) / 64
    return ends[0] - room, ends[1] + room
