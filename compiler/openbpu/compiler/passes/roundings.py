"""Where nothing is quantized between a convolution or product and what follows it, a rounding is put there.

Conv → v → SiLU(v) → Q          becomes      Conv → Q(int16) → DQ → SiLU → Q
Conv → Relu → AveragePool → Q   becomes      Conv → Relu → Q(int16) → DQ → AveragePool → Q
Conv → Relu → MaxPool → Q       becomes      Conv → Relu → Q → DQ → MaxPool → Q      by the scale of Q: exact

Only in front of what would be left to the CPU, only where the interval of v is known and its rounding moves
the result by less than `tables.ROOM`, and only where all of it is on the BPU then: else the graph stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from openbpu.arch.march import March
from openbpu.compiler.ir import Graph, Node, Rewriter
from openbpu.compiler.ir.qdq import DEQUANTIZE, QUANTIZE, is_quantize
from openbpu.compiler.passes.constants import fold_constants
from openbpu.compiler.passes.cuts import Cut, Cutter
from openbpu.compiler.passes.integerise import integerise
from openbpu.compiler.passes.moves import cancel_pairs, hoist_quantize, sink_dequantize
from openbpu.compiler.passes.refusals import Refusal

_ROUNDS = 16
Cuts = Mapping[str, tuple[Cut, ...]]
Integer = tuple[Graph, dict[str, Refusal]]


def integerise_with_roundings(graph: Graph, march: March, wanted: frozenset[str] = frozenset()) -> Integer:
    """Do as `integerise`, with roundings where they bring what is left onto the BPU."""
    plain = made = integerise(graph, march, wanted)
    if not any(a.value == "int16" for a, _ in march.conv_pairs):
        return plain
    tried: dict[str, tuple[Cut, ...]] = {}
    banned: set[str] = set()
    source = graph
    for _ in range(_ROUNDS):
        failed = _failed(source, made[0])
        cutter = Cutter(source, march, {c.made: c.room for cuts in tried.values() for c in cuts})
        found = {t: cutter.cuts(t) for t in sorted(failed - banned - set(tried))}
        new = {t: cuts for t, cuts in found.items() if cuts}
        lost = {t for t, cuts in tried.items() if t in failed or any(c.made in failed for c in cuts)}
        if not new and not lost:
            return made
        if not new:
            banned |= lost
        tried = _needed({t: cuts for t, cuts in {**tried, **new}.items() if t not in banned}, graph)
        if not tried:
            return plain
        source = _rounded(graph, tried)
        made = integerise(source, march, wanted)
    return plain


def _failed(source: Graph, made: Graph) -> set[str]:
    """Codes that a Quantize of ONNX still makes of what an operator computes."""
    makers = made.producers()
    names = {n.outputs[0] for n in source.nodes if is_quantize(n)}
    return {name for name in names if is_quantize(makers.get(name)) and makers[name].inputs[0] in makers}


def _needed(tried: Cuts, graph: Graph) -> dict[str, tuple[Cut, ...]]:
    """Drop cuts for the roundings of cuts that are gone."""
    made = set(graph.values)
    kept: dict[str, tuple[Cut, ...]] = {}
    for target, cuts in tried.items():
        if target in made:
            kept[target] = cuts
            made.update(cut.made for cut in cuts)
    return kept


def _rounded(graph: Graph, tried: Cuts) -> Graph:
    """Return the graph with these cuts, and what they uncover."""
    walk = _Walk(graph, {n.outputs[0]: n for n in graph.nodes if n.outputs})
    for target, cuts in tried.items():
        walk.cut(target, cuts)
    graph = sink_dequantize(hoist_quantize(sink_dequantize(walk.finish())))
    return cancel_pairs(fold_constants(graph))


@dataclass(slots=True)
class _Walk:
    """The graph while it is cut; `makers` are its nodes by every output."""

    graph: Graph
    makers: dict[str, Node]
    rw: Rewriter = field(init=False)
    quantizes: dict[str, Node] = field(default_factory=dict)
    floats: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rw = Rewriter(self.graph)
        self.makers = {o: n for n in self.graph.nodes for o in n.outputs if o}
        self.quantizes = {n.outputs[0]: n for n in self.graph.nodes if is_quantize(n)}

    def cut(self, target: str, cuts: tuple[Cut, ...]) -> None:
        """Let the Quantize of `target` read copies of its operators that read what is rounded."""
        known = {cut.name: self.pair(cut) for cut in cuts}
        quantize = self.quantizes[target]
        source = self.copied(quantize.inputs[0], known, target)
        self.quantizes[target] = replace(quantize, inputs=(source, *quantize.inputs[1:]))

    def pair(self, cut: Cut) -> str:
        """Return the float that a value is once it is rounded."""
        if cut.made not in self.floats:
            shape, scale = self.rw.values[cut.name].shape, cut.scaling
            terms = (
                self.rw.constant(f"{cut.made}/scale", np.array(scale.s, np.float32)),
                self.rw.constant(f"{cut.made}/zero", np.array(scale.z, scale.dtype)),
            )
            made = self.rw.value(cut.made, shape, scale.dtype)
            self.floats[cut.made] = self.rw.value(f"{made}/f", shape, "float32")
            self.rw.add(DEQUANTIZE, (made, *terms), (self.floats[made],))
            self.quantizes[made] = Node(QUANTIZE, (cut.name, *terms), (made,), {}, f"{QUANTIZE}:{made}")
        return self.floats[cut.made]

    def copied(self, name: str, known: dict[str, str], target: str) -> str:
        """Return the float that takes the place of `name`: rounded, a copy, or itself."""
        if name in known:
            return known[name]
        known[name] = name
        node = self.makers.get(name)
        if node is None or node.captures or is_quantize(node) or node.op == DEQUANTIZE:
            return name
        inputs = tuple(self.copied(i, known, target) if i else "" for i in node.inputs)
        if inputs == node.inputs:
            return name
        outputs = tuple(self.copy_of(o, target) if o else "" for o in node.outputs)
        self.rw.nodes.append(replace(node, inputs=inputs, outputs=outputs))
        known.update(zip(node.outputs, outputs, strict=True))
        return known[name]

    def copy_of(self, name: str, target: str) -> str:
        value = self.rw.values[name]
        return self.rw.value(f"{name}/for/{target}", value.shape, value.dtype)

    def finish(self) -> Graph:
        others = [n for n in self.graph.nodes if not is_quantize(n)]
        self.rw.nodes = [*others, *self.quantizes.values(), *self.rw.nodes]
        return self.rw.finish()
