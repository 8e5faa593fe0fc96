"""Codes of 2 and 4 bits become codes of 8: the same integers in a wider type, clamped where they are made.

DQ(int4 w, s)                becomes      DQ(int8 w, s)
Q(x: int4) → DQ              becomes      Q(x: int8) → Clip(−8, 7) → DQ
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from openbpu.compiler.ir import Graph, Node, Rewriter
from openbpu.compiler.ir.qdq import is_dequantize, is_quantize
from openbpu.compiler.passes.blocks import is_blocked

_WIDE = {"int4": "int8", "int2": "int8", "uint4": "uint8", "uint2": "uint8"}
_RANGES = {"int4": (-8, 7), "int2": (-2, 1), "uint4": (0, 15), "uint2": (0, 3)}


def widen_small_integers(graph: Graph) -> Graph:
    """Return the graph without codes of fewer than 8 bits, but for those that only blocks or the CPU read."""
    found = [n for n in graph.nodes if _codes_of(n) and graph.values[_codes_of(n)].dtype in _WIDE]
    if not found:
        return graph
    wide = _Widened(Rewriter(graph), graph.producers(), graph.consumers())
    for node in graph.nodes:
        wide.visit(node)
    return wide.rw.finish()


class _Widened:
    def __init__(self, rw: Rewriter, makers: dict[str, Node], readers: dict[str, list[Node]]) -> None:
        self.rw, self.makers, self.readers = rw, makers, readers
        self.names: dict[str, str] = {}

    def visit(self, node: Node) -> None:
        codes = _codes_of(node)
        if not codes or not self.can_widen(codes):
            self.rw.nodes.append(node)
        elif is_quantize(node):
            self.quantize(node)
        else:
            inputs = (self.wide(codes), node.inputs[1], *(self.wide(n) for n in node.inputs[2:3] if n))
            self.rw.nodes.append(replace(node, inputs=inputs))

    def can_widen(self, codes: str) -> bool:
        """Whether codes are small, a constant or made by a Quantize, and only read by Dequantizes."""
        value, maker = self.rw.graph.values[codes], self.makers.get(codes)
        if value.dtype not in _WIDE or codes in self.rw.graph.outputs:
            return False
        if value.const is None and not (
            maker is not None and is_quantize(maker) and _has_zero(self.rw, maker)
        ):
            return False
        readers = self.readers.get(codes, [])
        return all(
            is_dequantize(n) and not is_blocked(self.rw.graph, n) and _has_zero(self.rw, n) for n in readers
        )

    def quantize(self, node: Node) -> None:
        """Quantize to 8 bits, and clamp to the range that the small type has."""
        out, dtype = node.outputs[0], self.rw.graph.values[node.outputs[0]].dtype
        wide = _WIDE[dtype]
        made = self.rw.value(f"{out}/wide", self.rw.graph.values[out].shape, wide)
        zero = self.wide(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else self.zero(node, wide)
        attrs = {k: v for k, v in node.attrs.items() if k != "output_dtype"}
        self.rw.nodes.append(replace(node, inputs=(*node.inputs[:2], zero), outputs=(made,), attrs=attrs))
        low, high = (self.rw.constant(f"{out}/bound", np.array(v, wide)) for v in _RANGES[dtype])
        clamped = self.rw.value(f"{out}/clamped", self.rw.graph.values[out].shape, wide)
        self.rw.add("Clip", (made, low, high), (clamped,))
        self.names[out] = clamped

    def zero(self, node: Node, dtype: str) -> str:
        shape = self.rw.graph.values[node.inputs[1]].shape or ()
        return self.rw.constant(f"{node.outputs[0]}/zero", np.zeros(shape, dtype))

    def wide(self, name: str) -> str:
        """Return the name of the same integers in 8 bits."""
        if name not in self.names:
            data = self.rw.graph.const(name)
            if data is None:
                raise ValueError(f"'{name}' is not a constant")
            dtype = _WIDE[self.rw.graph.values[name].dtype]
            self.names[name] = self.rw.constant(f"{name}/wide", data.astype(dtype))
        return self.names[name]


def _codes_of(node: Node) -> str:
    return node.outputs[0] if is_quantize(node) else node.inputs[0] if is_dequantize(node) else ""


def _has_zero(rw: Rewriter, node: Node) -> bool:
    """Whether there is no zero point, or one that is known."""
    return len(node.inputs) < 3 or not node.inputs[2] or rw.graph.const(node.inputs[2]) is not None
