"""Float results of tensor operators come from the int32 accumulator; what moves them moves accumulators."""

from __future__ import annotations

from openbpu.compiler.ir import Node, Quant
from openbpu.compiler.ir.qdq import is_dequantize, is_quantize, scaling
from openbpu.compiler.ops import OPS
from openbpu.compiler.passes.moves import is_move
from openbpu.compiler.passes.placing import Placing


class Accumulators(Placing):
    """Lowers tensor operators whose float result something reads, a Dequantize behind the accumulator."""

    def lowered(self, node: Node) -> bool:
        """Lower a tensor operator that the pass in front left over."""
        return self.is_candidate(node) and self.apply(node, self.plain_site(node))

    def is_candidate(self, node: Node) -> bool:
        """Whether a tensor operator's float result is read by anything but Quantize nodes."""
        rule = OPS.get(node.op)
        if rule is None or not rule.raw or node.domain != "" or not self.march.high_precision:
            return False
        out = node.outputs[0]
        readers = self.consumers.get(out, [])
        return out in self.graph.outputs or any(not is_quantize(r) for r in readers)


class MovedAccumulators(Placing):
    """Lowers moves of accumulators, whose Dequantize has sunk below them."""

    def lowered(self, node: Node) -> bool:
        """Lower a move of an accumulator; its Dequantize stands behind it now."""
        if is_dequantize(node) and (scale := scaling(self.graph, node)) is not None:
            self.rw.set_quant(
                node.inputs[0], Quant(tuple(float(s) for s in scale.scale), scale.z, scale.axis)
            )
        source = self.rw.values.get(next(iter(node.inputs), ""))
        if source is None or source.dtype != "int32" or source.quant is None or not is_move(self.graph, node):
            return False
        return node.op in OPS and self.apply(node, self.plain_site(node))
