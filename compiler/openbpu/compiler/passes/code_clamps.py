"""A clamp of codes becomes the clamp of reals that it stands for, in front of a Quantize of the same scale.

Conv → Q → Clip(−8, 7) → DQ      becomes      Conv → Clip(reals) → Q → DQ
codes → Relu → …                 becomes      codes → DQ → Clip(reals) → Q → …

Exact: a bound on the grid of codes is a real that quantizes to itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.onnx_ops import CARRIERS
from openbpu.compiler.ir import Array, Graph, Node, Rewriter
from openbpu.compiler.ir.qdq import DEQUANTIZE, QUANTIZE, is_dequantize, is_quantize, scaling

_CODES = ("int8", "uint8", "int16", "uint16")
Bounds = tuple[int, int]
Step = Callable[[str], list[tuple[Node, str]]]


def clamps_of_reals(graph: Graph) -> Graph:
    """Return the graph with Clip, Relu, Max and Min of codes, by constants, around their reals."""
    walk = _Walk(graph)
    if not any(walk.bounds(n) for n in graph.nodes):
        return graph
    for node in graph.nodes:
        walk.visit(node)
    return walk.rw.finish()


@dataclass(slots=True)
class _Walk:
    graph: Graph
    rw: Rewriter = field(init=False)
    makers: dict[str, Node] = field(init=False)
    readers: dict[str, list[Node]] = field(init=False)

    def __post_init__(self) -> None:
        self.rw = Rewriter(self.graph)
        self.makers, self.readers = self.graph.producers(), self.graph.consumers()

    def visit(self, node: Node) -> None:
        found = self.bounds(node)
        about = None if found is None else self.scales(node)
        if found is None or about is None:
            self.rw.nodes.append(node)
            return
        source = self.makers.get(found[0])
        if source is not None and self.is_computed(source):
            self.in_front(node, source, found[1])
        else:
            self.behind(node, found, about)

    def bounds(self, node: Node) -> tuple[str, Bounds] | None:
        """Codes that a node clamps by constants, and the least and the largest code that it lets through."""
        if node.domain or node.op not in ("Clip", "Relu", "Max", "Min") or not node.outputs[0]:
            return None
        dtype = self.graph.values[node.outputs[0]].dtype
        data = [n for n in node.inputs if n and self.graph.const(n) is None]
        limits = [self.graph.const(n) if n else None for n in node.inputs]
        if dtype not in _CODES or len(data) != 1 or self.graph.values[data[0]].shape is None:
            return None
        if node.op in ("Clip", "Relu") and data[0] != node.inputs[0]:
            return None
        if any(v is not None and v.size != 1 for v in limits):
            return None
        if self.graph.values[data[0]].shape != self.graph.values[node.outputs[0]].shape:
            return None
        return data[0], _range(node, limits, dtype)

    def scales(self, node: Node) -> Node | None:
        """The Q or DQ that says what the codes of a node mean: behind it, or in front."""
        found = self.meaning(node.outputs[0], self.readers_of, is_dequantize)
        return found or self.meaning(node.inputs[0], self.makers_of, is_quantize)

    def readers_of(self, name: str) -> list[tuple[Node, str]]:
        return [(n, o) for n in self.readers.get(name, []) for o in n.outputs[:1]]

    def makers_of(self, name: str) -> list[tuple[Node, str]]:
        maker = self.makers.get(name)
        return [] if maker is None else [(maker, i) for i in maker.inputs[:1]]

    def meaning(self, name: str, step: Step, wanted: Callable[[Node], bool]) -> Node | None:
        """The first Q or DQ per tensor that carriers and clamps lead to from codes."""
        todo, seen = [name], {name}
        while todo:
            for node, onwards in step(todo.pop()):
                if wanted(node):
                    scale = scaling(self.graph, node)
                    return node if scale is not None and scale.per_tensor else None
                carried = not node.domain and (node.op in CARRIERS or self.bounds(node) is not None)
                if carried and onwards and onwards not in seen:
                    seen.add(onwards)
                    todo.append(onwards)
        return None

    def is_computed(self, quantize: Node) -> bool:
        """Whether an operator makes the reals of a Quantize that this clamp alone reads."""
        maker = self.makers.get(quantize.inputs[0])
        codes = quantize.outputs[0]
        alone = len(self.readers.get(codes, [])) == 1 and codes not in self.graph.outputs
        return is_quantize(quantize) and alone and maker is not None and not is_dequantize(maker)

    def in_front(self, node: Node, quantize: Node, bounds: Bounds) -> None:
        """Clamp the reals in front of the Quantize, which then makes the output."""
        floats = quantize.inputs[0]
        clamped = self.clip(node, floats, bounds, quantize)
        self.rw.nodes.append(replace(quantize, inputs=(clamped, *quantize.inputs[1:]), outputs=node.outputs))

    def behind(self, node: Node, found: tuple[str, Bounds], about: Node) -> None:
        """Clamp the reals of the codes, and quantize them again."""
        shape = self.graph.values[node.outputs[0]].shape
        terms = about.inputs[1:3]
        floats = self.rw.value(f"{node.outputs[0]}/f", shape, "float32")
        self.rw.add(DEQUANTIZE, (found[0], *terms), (floats,))
        clamped = self.clip(node, floats, found[1], about)
        self.rw.add(QUANTIZE, (clamped, *terms), node.outputs)

    def clip(self, node: Node, floats: str, bounds: Bounds, about: Node) -> str:
        scale = scaling(self.graph, about)
        if scale is None:
            raise ValueError(f"'{about.name}' has no constant scale")
        reals = numerics.dequantize(np.array(bounds, np.int64), scale.s, scale.z)
        value = self.rw.values[floats]
        limits = [self.rw.constant(f"{node.outputs[0]}/bound", np.array(v, np.float32)) for v in reals]
        clamped = self.rw.value(f"{node.outputs[0]}/clamped", value.shape, "float32")
        self.rw.add("Clip", (floats, *limits), (clamped,), node.origins, node.name)
        return clamped


def _range(node: Node, limits: list[Array | None], dtype: str) -> Bounds:
    info = np.iinfo(dtype)
    if node.op == "Relu":
        return max(0, int(info.min)), int(info.max)
    numbers = [None if v is None else int(v.reshape(())) for v in limits]
    given = [v for v in numbers if v is not None]
    if node.op == "Clip":
        low, high = ((*numbers, None, None)[i] for i in (1, 2))
        top = int(info.max) if high is None else high
        return min(int(info.min) if low is None else low, top), top
    return (given[0], int(info.max)) if node.op == "Max" else (int(info.min), given[0])
