"""Float operators between Dequantize and Quantize become operators of the BPU, or keep a reason why not.

    DQ → Conv → Add(DQ) → Relu → Q      becomes      Conv(codes, residual codes) with one requantization

The rows of the operator table decide: their limits refuse, their `lower` emits. What is refused stays as
ONNX.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from openbpu.arch.dtypes import DType
from openbpu.arch.march import March
from openbpu.arch.numerics.functions import POINTWISE
from openbpu.compiler.ir import Graph, Node, Origin, Quant, Rewriter
from openbpu.compiler.ir.qdq import Scaling, is_dequantize, is_quantize, scaling
from openbpu.compiler.net import caught
from openbpu.compiler.ops import OPS, Refused, Site
from openbpu.compiler.ops.tables import chain_of, lower_chain, no_unit
from openbpu.compiler.passes.forms import CODES, clamped_form, forms, peel
from openbpu.compiler.passes.moves import is_move, sink_dequantize
from openbpu.compiler.passes.refusals import Refusal, Refusals, refusal_of, strange_result
from openbpu.compiler.passes.wishes import Wishes

_CODE_OPS = frozenset({"MaxPool", "Concat"})


@dataclass(slots=True)
class _Pass:
    """One walk over the graph; `raw` is the second, for float results that the first left over.

    `late` is the third, for moves of those results.
    """

    graph: Graph
    march: March
    wishes: Wishes
    raw: bool = False
    late: bool = False
    rw: Rewriter = field(init=False)
    producers: dict[str, Node] = field(init=False)
    consumers: dict[str, list[Node]] = field(init=False)
    refusals: Refusals = field(default_factory=Refusals)

    def __post_init__(self) -> None:
        self.rw = Rewriter(self.graph)
        self.producers = self.graph.producers()
        self.consumers = self.graph.consumers()

    # --- walking --------------------------------------------------------------------------------------------

    def run(self) -> Graph:
        for node in self.graph.nodes:
            with caught(f"node '{node.name}' ({node.op})"):
                if not self.lowered(node):
                    self.rw.nodes.append(node)
        return self.rw.finish()

    def lowered(self, node: Node) -> bool:
        if node.is_bpu:
            return False
        if self.raw:
            return self.is_raw_candidate(node) and self.apply(node, self.plain_site(node))
        if self.late:
            return self.moved_late(node)
        if is_quantize(node):
            done = self.quantized(node)
            self.note_codes(node, node.outputs[0])
            return done
        if is_dequantize(node):
            self.note_codes(node, node.inputs[0])
            return False
        return node.domain == "" and self.moves_codes(node) and self.apply(node, self.plain_site(node))

    def moved_late(self, node: Node) -> bool:
        """Lower a move of an accumulator; its Dequantize stands behind it now."""
        if is_dequantize(node) and (scale := scaling(self.graph, node)) is not None:
            self.rw.set_quant(
                node.inputs[0], Quant(tuple(float(s) for s in scale.scale), scale.z, scale.axis)
            )
        source = self.rw.values.get(next(iter(node.inputs), ""))
        if source is None or source.dtype != "int32" or source.quant is None or not is_move(self.graph, node):
            return False
        return node.op in OPS and self.apply(node, self.plain_site(node))

    def plain_site(self, node: Node) -> Site:
        return self.site(node, None, node.outputs[0], node.origins)

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

    def is_raw_candidate(self, node: Node) -> bool:
        """Whether a tensor operator's float result is read by anything but Quantize nodes."""
        rule = OPS.get(node.op)
        if rule is None or not rule.raw or node.domain != "" or not self.march.high_precision:
            return False
        out = node.outputs[0]
        readers = self.consumers.get(out, [])
        return out in self.graph.outputs or any(not is_quantize(r) for r in readers)

    # --- trying ---------------------------------------------------------------------------------------------

    def site(self, node: Node, out: Scaling | None, target: str, origins: tuple[Origin, ...]) -> Site:
        return Site(
            graph=self.graph,
            rw=self.rw,
            march=self.march,
            producers=self.producers,
            node=node,
            out=out,
            target=target,
            origins=origins,
            is_output=self.ends_model(target),
        )

    def ends_model(self, target: str) -> bool:
        """Whether a value, or what a Dequantize makes of it, is an output of the model."""
        floats = [c.outputs[0] for c in self.consumers.get(target, []) if is_dequantize(c)]
        return any(name in self.graph.outputs for name in (target, *floats))

    def apply(self, node: Node, site: Site) -> bool:
        """Lower `node` through its row."""
        return self.attempt((node,), site, lambda: OPS[node.op].apply(site), listed=(node,))

    def attempt(
        self, nodes: tuple[Node, ...], site: Site, lower: Callable[[], None], *, listed: tuple[Node, ...]
    ) -> bool:
        """Lower `nodes`; on refusal emit nothing and remember the reason at the first of them.

        `listed` are the nodes that must not be on the march's list of CPU operators.
        """
        left = next((n for n in nodes if any(o.stays_float for o in n.origins)), None)
        if left is not None:
            fix = "give it int8 or int16 when quantizing"
            self.refusals.add(left, Refused("the quantizer was asked to leave it float", fix))
            return False
        mark, values = len(self.rw.nodes), dict(self.rw.values)
        off = self.wishes.kept_off(listed)
        why = None if off is not None and self.wishes.lacks_unit(off) else refusal_of(lower)
        if off is not None:
            why = self.wishes.refusal(off, why)
            self.refusals.add(off, why)
        if why is None:
            self.refusals.forget(site.origins)
            return True
        del self.rw.nodes[mark:]
        self.rw.values = values
        self.refusals.add(nodes[0], why)
        return False

    # --- a Quantize and what feeds it -----------------------------------------------------------------------

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
            self.refusals.add(
                root,
                Refused(f"the shape of '{end}' is not static", "give every input a fixed shape with --shape"),
            )
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
    wishes = Wishes(march, wanted)
    first = _Pass(graph, march, wishes)
    quantized = first.run()
    # Float results of tensor operators that are still needed come from the int32 accumulator.
    second = _Pass(quantized, march, wishes, raw=True, refusals=first.refusals)
    raw = second.run()
    sunk = sink_dequantize(raw)
    if len(sunk.nodes) == len(raw.nodes) and all(a is b for a, b in zip(sunk.nodes, raw.nodes, strict=True)):
        return raw, second.refusals.by_name
    third = _Pass(sunk, march, wishes, late=True, refusals=second.refusals)
    return third.run(), third.refusals.by_name
