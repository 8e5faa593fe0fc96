"""Where a rounding can stand, by which scale, and how far it moves the result of what is behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Float64
from openbpu.arch.march import March
from openbpu.arch.numerics.functions import POINTWISE
from openbpu.arch.onnx_ops import MOVES
from openbpu.compiler.ir import Graph, Node, Rewriter
from openbpu.compiler.ir.qdq import Scaling, is_dequantize, is_quantize, scaling
from openbpu.compiler.ops import OPS, Site
from openbpu.compiler.ops.elementwise import per_channel
from openbpu.compiler.ops.tables import ROOM, ROUNDED, scalar
from openbpu.compiler.passes.forms import CODES, peel
from openbpu.compiler.passes.intervals import Interval, Intervals

_LARGEST = 32767
_FLAT = 1e-4
"""What saturates, as far as the range of an intermediate is concerned, in steps."""
_MOST = 64
_PICKS = frozenset({"GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMin"})
"""Quantize(pick(x)) is pick(Quantize(x)): the scale behind them can stand in front."""
_LINEAR = MOVES | {
    "Add",
    "AveragePool",
    "Concat",
    "GlobalAveragePool",
    "Max",
    "Min",
    "ReduceMean",
    "Resize",
    "Sub",
    "Sum",
}
"""What moves its result by no more than its data are moved, together."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A float `name` that is rounded by `scaling`; `room`: how many of its steps it may be off."""

    name: str
    scaling: Scaling
    room: float = 0.0

    @property
    def made(self) -> str:
        """Name of the codes."""
        return f"{self.name}{ROUNDED}{self.scaling.dtype}:{self.scaling.s:.9g}:{self.scaling.z}"


@dataclass(slots=True)
class Cutter:
    """Finds the cuts of a graph; `rooms` are those of the roundings in it, by their codes."""

    graph: Graph
    march: March
    rooms: Mapping[str, float]
    makers: dict[str, Node] = field(init=False)
    readers: dict[str, list[Node]] = field(init=False)
    order: dict[str, int] = field(init=False)
    intervals: Intervals = field(init=False)
    site: Site = field(init=False)

    def __post_init__(self) -> None:
        self.makers, self.readers = self.graph.producers(), self.graph.consumers()
        self.order = {o: i for i, n in enumerate(self.graph.nodes) for o in n.outputs}
        node = Node("", (), ())
        self.site = Site(self.graph, Rewriter(self.graph), self.march, self.makers, node, None, "")
        self.intervals = Intervals(self.site)

    def cuts(self, target: str) -> tuple[Cut, ...]:
        """Return what to round for the Quantize that makes `target`; nothing where that would not help."""
        quantize = self.makers.get(target)
        out = scaling(self.graph, quantize) if quantize is not None and is_quantize(quantize) else None
        if quantize is None or out is None or not out.per_tensor or out.dtype not in CODES:
            return ()
        end, room = quantize.inputs[0], self.rooms.get(target, ROOM[out.dtype])
        if self.graph.values[end].shape is None:
            return ()
        for name in reversed(self.single_values(end)):
            cut = self.before_function(name, end, out, room)
            if cut is not None:
                return (cut,)
        return self.before_operator(end, out, room)

    # --- a function of one value ----------------------------------------------------------------------------

    def single_values(self, end: str) -> list[str]:
        """Floats that alone decide `end`, through element-wise operators: from the end to the front."""
        frontier: set[str] = {end}
        found: list[str] = []
        for _ in range(_MOST):
            last = max(frontier, key=lambda n: self.order.get(n, -1))
            operands = self.operands(last)
            if operands is None:
                break
            frontier = (frontier - {last}) | operands
            if len(frontier) == 1:
                found.extend(frontier)
        clamped = peel(self.site, end)[2]  # clamps alone are no function: they are fused
        return [n for n in found if n != clamped and self.is_of_product(n)] if found[-1:] != [clamped] else []

    def operands(self, name: str) -> set[str] | None:
        """The computed operands of the element-wise operator that makes a float; None for other makers."""
        node = self.makers.get(name)
        if node is None or node.domain or node.op not in POINTWISE:
            return None
        varying = {n for n in node.inputs if n and scalar(self.site, n) is None}
        if not varying or any(self.is_constant(n) for n in varying):
            return None
        shapes = {self.graph.values[n].shape for n in (*varying, name)}
        return varying if len(shapes) == 1 else None

    def is_constant(self, name: str) -> bool:
        """Whether a float is a constant, dequantized or not."""
        leaf = self.site.leaf_or_none(name)
        return self.graph.const(name) is not None or (leaf is not None and leaf.const is not None)

    def before_function(self, name: str, end: str, out: Scaling, room: float) -> Cut | None:
        """The cut in front of a function, over the part of its range in which it is not saturated."""
        interval = self.intervals.of(name)
        if interval is None:
            return None
        info = np.iinfo(out.dtype)

        def steps(x: Float64) -> Float64:
            with np.errstate(all="ignore"):
                y = self.function(name, end, numerics.Real.of(x), {}).exact
            return np.clip(np.broadcast_to(y, x.shape) / out.s + out.z, info.min - 0.5, info.max + 0.5)

        live = _live(interval, steps)
        if live is None:
            return None
        scale = _held(live)
        codes = np.arange(-_LARGEST - 1, _LARGEST + 1)
        moved = np.abs(np.diff(steps((codes - scale.z).astype(np.float64) * scale.s))).max() / 2
        return Cut(name, scale, room / (2 * moved + 1e-9) - 0.5) if moved <= room else None

    def function(
        self, name: str, end: str, x: numerics.Real, done: dict[str, numerics.Real]
    ) -> numerics.Real:
        """Value of `end` where that of `name` is `x`."""
        if end == name:
            return x
        if end not in done:
            number = scalar(self.site, end)
            if number is not None:
                return numerics.Real.of(number)
            node = self.makers[end]
            operands = [self.function(name, i, x, done) if i else None for i in node.inputs]
            done[end] = numerics.pointwise(node.op, node.attrs, *operands)
        return done[end]

    # --- any other operator ---------------------------------------------------------------------------------

    def before_operator(self, end: str, out: Scaling, room: float) -> tuple[Cut, ...]:
        """The cuts of what an operator reads and nothing has quantized."""
        node = self.makers.get(peel(self.site, end)[2])
        if node is None or node.domain or is_dequantize(node):
            return ()
        names = self.unquantized(node)
        if not names or not any(self.is_of_product(n) for n in names):
            return ()
        if node.op in _PICKS or (node.op == "Split" and self.is_even(node, out)):
            return tuple(Cut(n, out, room) for n in names)
        found = []
        for name in names:
            interval, reach = self.intervals.of(name), self.reach(node, name)
            if interval is None or reach is None:
                return ()
            scale = _held(interval)
            own = room / len(names) * out.s / (reach * scale.s + 1e-30) - 0.5
            found.append(Cut(name, scale, own))
        return tuple(found) if all(cut.room >= 0 for cut in found) else ()

    def unquantized(self, node: Node) -> list[str]:
        """The tensors among a node's inputs that no Dequantize makes."""
        names = node.inputs if node.op in POINTWISE or node.op == "Concat" else node.inputs[:1]
        affine = node.op in ("Add", "Div", "Mul", "Sub") and per_channel(self.site_of(node)) is not None
        return [
            n
            for n in dict.fromkeys(names)
            if n
            and self.site.leaf_or_none(n) is None
            and scalar(self.site, n) is None
            and not (affine and self.graph.const(n) is not None)
        ]

    def site_of(self, node: Node) -> Site:
        """A place to read a node from."""
        return Site(self.graph, self.site.rw, self.march, self.makers, node, None, "")

    def is_even(self, split: Node, out: Scaling) -> bool:
        """Whether every part of a Split is quantized, by one scale."""
        readers = [r for o in split.outputs for r in self.readers.get(o, [])]
        scales = [scaling(self.graph, r) if is_quantize(r) else None for r in readers]
        return all(s is not None and s.same(out) for s in scales)

    def reach(self, node: Node, name: str) -> float | None:
        """By how much a result moves, at most, for each by which one of its data is moved; None: unknown."""
        if node.op in _LINEAR:
            return 1.0
        if node.op == "Softmax":
            return 0.5
        if node.op == "ReduceSum":
            before, after = (self.graph.values[n] for n in (node.inputs[0], node.outputs[0]))
            return before.size / max(after.size, 1) if before.shape and after.shape is not None else None
        if node.op not in ("Mul", "PRelu"):
            return None
        others = [n for n in node.inputs if n != name]
        ends = self.intervals.of(others[0]) if len(others) == 1 else None
        least = 1.0 if node.op == "PRelu" else 0.0
        return None if ends is None else max(least, *map(abs, ends))

    def is_of_product(self, name: str) -> bool:
        """Whether a convolution or product made a float, and nothing has quantized it since."""
        todo, seen = [name], {name}
        while todo and len(seen) < _MOST:
            node = self.makers.get(todo.pop())
            if node is None or node.domain or is_dequantize(node):
                continue
            rule = OPS.get(node.op)
            if rule is not None and rule.fuses:
                return True
            todo.extend(n for n in node.inputs if n and n not in seen)
            seen.update(node.inputs)
        return False


def _live(interval: Interval, steps: Callable[[Float64], Float64]) -> Interval | None:
    """The part of an interval beyond which a function, in steps of its result, is as at its ends."""
    x = _samples(interval)
    y = steps(x)
    if np.isnan(y).any():
        return None
    low, high = (np.flatnonzero(np.abs(y - y[end]) > _FLAT) for end in (0, -1))
    if not low.size:
        return min(x[0], 0.0), max(x[-1], 0.0)
    first, last = max(int(low[0]) - 1, 0), min(int(high[-1]) + 1, x.size - 1)
    return min(float(x[first]), 0.0), max(float(x[last]), 0.0)


def _samples(interval: Interval) -> Float64:
    """Points of an interval, evenly and closer towards 0."""
    even = np.linspace(*interval, 2049)
    near = np.sinh(np.linspace(-12, 12, 2049)) / np.sinh(12) * max(map(abs, interval))
    return np.unique(np.concatenate([even, np.clip(near, *interval)]))


def _held(interval: Interval) -> Scaling:
    """The scaling by which int16 codes just hold an interval, and 0."""
    low, high = min(interval[0], 0.0), max(interval[1], 0.0)
    scale = np.float32(max(high - low, 1e-30) / (2 * _LARGEST))
    zero = int(np.clip(np.rint(-_LARGEST - low / float(scale)), -_LARGEST, _LARGEST))
    return Scaling(np.array([scale], np.float32), np.array([zero], np.int64), "int16")
