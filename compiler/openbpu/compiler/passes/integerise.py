"""Float operators between Dequantize and Quantize become operators of the BPU, or keep a reason why not.

    DQ → Conv → Add(DQ) → Relu → Q      becomes      Conv(codes, residual codes) with one requantization

The rows of the operator table decide: their limits refuse, their `lower` emits. What is refused stays as
ONNX.
"""

from __future__ import annotations

from openbpu.arch.dtypes import DType
from openbpu.arch.march import March
from openbpu.arch.numerics.functions import POINTWISE
from openbpu.compiler.ir import Graph, Node, Quant
from openbpu.compiler.ir.qdq import Scaling, is_dequantize, is_quantize, scaling
from openbpu.compiler.ops import OPS, Site
from openbpu.compiler.ops.advice import no_shape
from openbpu.compiler.ops.tables import chain_of, lower_chain, no_unit
from openbpu.compiler.passes.accumulators import Accumulators, MovedAccumulators
from openbpu.compiler.passes.bools import Bools
from openbpu.compiler.passes.forms import CODES, clamped_form, forms, peel
from openbpu.compiler.passes.indices import Indices, casts_beside_finders
from openbpu.compiler.passes.moves import sink_dequantize
from openbpu.compiler.passes.refusals import Refusal, Refusals, strange_result
from openbpu.compiler.passes.wishes import Wishes

_CODE_OPS = frozenset({"MaxPool", "Concat"})


class Quantized(Bools):
    """Lowers the float operators in front of every Quantize, the moves of codes, and what makes bools."""

    def lowered(self, node: Node) -> bool:
        """Lower a Quantize and what feeds it, or a node that keeps codes."""
        if is_quantize(node):
            done = self.quantized(node)
            self.note_codes(node, node.outputs[0])
            return done
        if is_dequantize(node):
            self.note_codes(node, node.inputs[0])
            return False
        if self.is_of_bools(node):
            return self.decided(node)
        return node.domain == "" and self.moves_codes(node) and self.apply(node, self.plain_site(node))

    def note_codes(self, node: Node, codes: str) -> None:
        """Note what the codes at a Q or DQ mean, unless the operator that makes them has said it."""
        if self.rw.values[codes].quant is not None:
            return
        scale = scaling(self.graph, node)
        if scale is not None and scale.dtype in (*CODES, "int32"):
            self.rw.set_quant(codes, Quant(tuple(float(s) for s in scale.scale), scale.z, scale.axis))

    def moves_codes(self, node: Node) -> bool:
        """Whether a node that keeps codes has codes to move."""
        rule = OPS.get(node.op)
        if rule is None or (rule.clamps and node.op not in _CODE_OPS and node.op != "Resize"):
            return False
        return (
            bool(node.inputs)
            and self.graph.values[node.inputs[0]].dtype in (*CODES, "int32")
            and self.from_codes(node)
        )

    def from_codes(self, node: Node) -> bool:
        """Whether the integers of input 0 are codes: of a code type, or int32 with a DQ behind the node."""
        name = node.inputs[0]
        if self.graph.values[name].dtype in CODES:
            return True
        return any(is_dequantize(c) for o in node.outputs for c in self.consumers.get(o, []))

    def quantized(self, quantize: Node) -> bool:
        """Lower the float operators in front of a Quantize; False leaves the Quantize as it is."""
        end, target = quantize.inputs[0], quantize.outputs[0]
        root = self.producers.get(end)
        if root is None or not (is_dequantize(root) or has_unit(root)):
            return False
        out = scaling(self.graph, quantize)
        if out is None or not out.per_tensor or out.dtype not in CODES:
            self.refusals.add(root, strange_result(quantize, out))
            return False
        if self.graph.values[end].shape is None:
            self.refusals.add(root, no_shape(self.graph, self.producers, end))
            return False
        ways = [self.chain, self.fused]
        if self.is_wide_binary(root, out, end, target):
            ways.reverse()
        return any(way(root, out, end, target) for way in ways)

    def is_wide_binary(self, root: Node, out: Scaling, end: str, target: str) -> bool:
        """Whether an int16 tensor meets itself, as in x · x: exact as an operator of two, not as a table."""
        site = self.site(root, out, target, ())
        core = self.producers.get(peel(site, end)[2])
        if core is None or core.domain != "" or core.op not in OPS or len(core.inputs) != 2:
            return False
        leaves = [site.leaf_or_none(name) for name in core.inputs]
        return all(leaf is not None and leaf.const is None and leaf.dtype == "int16" for leaf in leaves)

    def chain(self, root: Node, out: Scaling, end: str, target: str) -> bool:
        """Try the unary chain: one tensor, one table."""
        site = self.site(root, out, target, ())
        site.memo["end"] = end
        found = chain_of(site)
        if found is None:
            return False
        leaf, nodes = found
        # What the march lists has no unit of its own; inside a longer chain it is just part of a table.
        alone = nodes if len(nodes) == 1 else ()
        if self.attempt(nodes or (root,), site, lambda: lower_chain(site, leaf, nodes), listed=alone):
            return True
        self.refusals.add_behind(nodes[0] if nodes else root, nodes[1:])
        return False

    def fused(self, root: Node, out: Scaling, end: str, target: str) -> bool:
        """Try operator + BatchNormalization + Add + Relu/Clip, from the most fused form to the least."""
        site = self.site(root, out, target, ())
        clamp, clamps, core_name = peel(site, end)
        core = self.producers.get(core_name)
        if core is None or core.domain != "":
            return False
        for form in forms(site, core):
            rule = OPS.get(form.node.op)
            if rule is None or (clamps and not rule.clamps):
                continue
            origins = tuple(o for n in (form.node, *form.extra, *clamps) for o in n.origins)
            trial = self.site(form.node, out, target, origins)
            trial.clamp, trial.residual, trial.affine = clamp, form.residual, form.affine
            trial.memo["end"] = end
            if self.apply(form.node, trial):
                return True
            self.refusals.add_behind(form.node, (*form.extra, *clamps))
        if core.op in POINTWISE and self.clamped(site, out, end, target):
            return True
        if core.op in POINTWISE and core.op not in OPS:
            self.refusals.add(core, no_unit(self.site(core, out, target, ())))
        return False

    def clamped(self, site: Site, out: Scaling, end: str, target: str) -> bool:
        """Try operator + constants per channel with clamps between them."""
        info = DType(out.dtype)
        reach = ((info.qmin - out.z - 1) * out.s, (info.qmax - out.z + 1) * out.s)
        form = clamped_form(site, end, *reach)
        if form is None or form.clamp is None:
            return False
        trial = self.site(
            form.node, out, target, tuple(o for n in (form.node, *form.extra) for o in n.origins)
        )
        trial.clamp, trial.affine = form.clamp, form.affine
        trial.memo["end"] = end
        return self.apply(form.node, trial)


def has_unit(node: Node) -> bool:
    """Whether the operator table, or the tables of element-wise functions, know a node."""
    return node.domain == "" and (node.op in OPS or node.op in POINTWISE)


def integerise(
    graph: Graph, march: March, wanted: frozenset[str] = frozenset()
) -> tuple[Graph, dict[str, Refusal]]:
    """Return the graph with BPU nodes wherever the operator table allows, and refusals by original node name.

    `wanted` names operators or nodes that the user wants on the BPU although the march prefers the CPU.
    """
    wishes, refusals = Wishes(march, wanted), Refusals()
    indexed = Indices(casts_beside_finders(graph), march, wishes, refusals).run()
    quantized = Quantized(indexed, march, wishes, refusals).run()
    raw = Accumulators(quantized, march, wishes, refusals).run()
    sunk = sink_dequantize(raw)
    if len(sunk.nodes) == len(raw.nodes) and all(a is b for a, b in zip(sunk.nodes, raw.nodes, strict=True)):
        return raw, refusals.by_name
    return MovedAccumulators(sunk, march, wishes, refusals).run(), refusals.by_name
