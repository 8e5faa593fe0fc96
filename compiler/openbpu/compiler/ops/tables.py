"""Element-wise operators of one tensor, alone or chained without roundings: one look-up, or a rescale."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Float64, Int64
from openbpu.arch.dtypes import DType
from openbpu.arch.numerics.functions import CASTS, CONDITIONS, JOINS, POINTWISE, UNARY
from openbpu.arch.program import Lut, Rescale, SegmentLut
from openbpu.compiler.ir import Node, Origin
from openbpu.compiler.ir.dialect import Builder, form
from openbpu.compiler.ir.qdq import Scaling
from openbpu.compiler.ops.advice import LEAVE
from openbpu.compiler.ops.elementwise import CHANNELS, emit_binary
from openbpu.compiler.ops.mechanical import PAIR
from openbpu.compiler.ops.ranks import of_rank, on_view
from openbpu.compiler.ops.rule import BYTES, FILLED, OpRule
from openbpu.compiler.ops.site import FLAGS, Leaf, Refused, Site, dequantized

_MAX_CHAIN = 64
ROUNDED = "/rounded/"
"""In the names of codes that a rounding of the compiler's own makes (passes.cuts)."""
ROOM = {"int8": 0.5, "int16": 2.0}
"""By how many steps of the result such a rounding may move it before it is rounded itself."""
_INTEGERS = frozenset({"int32", "int64"})
_OF_INTEGERS = frozenset({"Abs", "Cast", "Clip", "Max", "Min", "Neg", "Relu", "Sign", "Where"})
"""What gives of integers the same as of floats that are whole."""


@dataclass(slots=True)
class _Chain:
    """A float subgraph of element-wise operators over the codes of one tensor."""

    site: Site
    leaf: Leaf | None = None
    nodes: list[Node] = field(default_factory=list)
    through_casts: bool = True

    def leaf_at(self, name: str) -> Leaf | None:
        """The tensor that a value is; of a bool that is cast, the comparison in front is looked at first."""
        node = self.site.producers.get(name)
        if node is not None and node.op == "Cast":
            return None if self.through_casts else self.site.flag_leaf(name)
        return self.site.leaf_or_none(name)

    def collect(self, name: str) -> bool:
        """Walk from `name` back to the leaf; False when anything but one tensor and scalars is in the way."""
        leaf = self.leaf_at(name)
        if leaf is not None and leaf.const is None:
            if not leaf.scaling.per_tensor or leaf.dtype not in ("int8", "int16"):
                return False
            if self.leaf is not None and not (
                self.leaf.codes == leaf.codes and self.leaf.scaling.same(leaf.scaling)
            ):
                return False
            self.leaf = leaf
            return True
        if scalar(self.site, name) is not None:
            return True
        node = self.site.producers.get(name)
        if node is None or node.op not in POINTWISE or node.domain != "" or len(self.nodes) >= _MAX_CHAIN:
            return False
        if node.op == "Cast" and node.attrs.get("to") not in CASTS:
            return False
        if node.op == "Where" and not self.compared(node.inputs[0]):
            return False
        if self.site.graph.values[name].dtype in _INTEGERS and node.op not in _OF_INTEGERS:
            return False  # it divides, or overflows, as integers do
        if any(node is n for n in self.nodes):
            return True
        self.nodes.append(node)
        return all(self.collect(i) for i in node.inputs if i)

    def compared(self, name: str) -> bool:
        """Whether a condition is made of comparisons: one, its opposite, or several that are joined."""
        node = self.site.producers.get(name)
        if node is None or node.domain != "":
            return False
        joined = node.op in JOINS and all(self.compared(i) for i in node.inputs)
        return joined or node.op in CONDITIONS

    def evaluate(self, name: str, x: numerics.Real, done: dict[str, numerics.Real]) -> numerics.Real:
        """Value of `name` when the leaf's reals are `x`."""
        if name in done:
            return done[name]
        number = scalar(self.site, name)
        if number is not None:
            return numerics.Real.of(number)
        if self.leaf_at(name) is not None:
            return x
        node = self.site.producers[name]
        operands = [self.evaluate(i, x, done) if i else None for i in node.inputs]
        done[name] = numerics.pointwise(node.op, node.attrs, *operands)
        return done[name]


def scalar(site: Site, name: str) -> Float64 | None:
    """Value of a constant with one element in float64: a number of the graph, or its code times its scale."""
    data = site.graph.const(name)
    if data is None:
        leaf = site.leaf_or_none(name)
        if leaf is None or leaf.const is None or leaf.const.size != 1:
            return None
        return dequantized(leaf).reshape(())
    if data.size != 1 or data.dtype.kind not in "fiu" or np.isnan(data).any():
        return None
    return data.astype(np.float64).reshape(())


def chain_of(site: Site) -> tuple[Leaf, tuple[Node, ...]] | None:
    """Tensor and nodes of the element-wise chain in front of the site's Quantize; None if there is none."""
    ends = site.memo["end"]
    for chain in (_Chain(site), _Chain(site, through_casts=False)):
        if chain.collect(ends) and chain.leaf is not None and chain.leaf.shape == site.shape_of(ends):
            return chain.leaf, tuple(chain.nodes)
    return None


def no_unit(site: Site) -> Refused:
    """Why a function that exists as a table only is none here: its one tensor, or that there are two."""
    core = site.node
    tensors = [i for i, name in enumerate(core.inputs) if name and site.graph.const(name) is None]
    if len(tensors) == 1:
        try:
            site.leaf(tensors[0])
        except Refused as refused:
            return refused
    return Refused(f"no BPU unit for {core.op} of several tensors", f"{LEAVE}: it has tables of one tensor")


def lower_chain(site: Site, leaf: Leaf, nodes: tuple[Node, ...]) -> None:
    """Lower a chain to a Rescale (linear, or no operator at all) or to a look-up table."""
    for limit in (FILLED, BYTES):  # of one tensor: it has any rank as a view
        limit.check(site)
    site.origins = _origins(site, nodes)
    rank = site.limit("gelu_rank") if any(node.op in _OF_A_RANK for node in nodes) else 0
    shape = of_rank(leaf.shape, rank) if rank else leaf.shape
    on_view(site, leaf.codes, shape, lambda codes: _lower_on(site, replace(leaf, codes=codes), nodes))


def _lower_on(site: Site, leaf: Leaf, nodes: tuple[Node, ...]) -> None:
    out = site.out_quant()
    codes = numerics.codes(DType(leaf.dtype)).astype(np.float64)
    x = (codes - leaf.z) * leaf.s
    target = _target(site, leaf, nodes, x)
    if leaf.dtype == "int16" and site.graph.values[site.memo["end"]].dtype == "bool":
        _steps(site, leaf, target)
        return
    line = numerics.line(x, target) if leaf.dtype == "int16" or out.dtype == "int32" else None
    if line is not None:
        site.clamp = (float(target.min()), float(target.max()))
        _rescale(site, leaf, *line)
        return
    square = numerics.parabola(codes, target) if leaf.dtype == "int16" and _multiplies(site) else None
    if square is not None:
        site.clamp = (float(target.min()), float(target.max()))
        _product(site, leaf, square)
        return
    info = np.iinfo(out.dtype)
    if leaf.dtype == "int8":
        entries = np.clip(np.rint(target / out.s) + out.z, info.min, info.max)
        table = site.rw.constant(f"{site.target}/table", entries.astype(out.dtype))
        site.finish("Lut", x=leaf.codes, table=table)
        return
    steps = target / out.s + out.z
    moved = _moved(steps, int(info.min), int(info.max)) if ROUNDED in leaf.codes else 0.0
    segments = segments_of(site, steps, nodes, int(info.min), int(info.max), moved)
    table = site.rw.constant(f"{site.target}/segments", segments)
    site.finish("SegmentLut", x=leaf.codes, segments=table, lo=int(info.min), hi=int(info.max))


def _steps(site: Site, leaf: Leaf, truth: Float64) -> None:
    """A condition of an int16 tensor: one step is a clamp, more are segments; exact."""
    segments = numerics.runs(truth)
    most = min(site.limit("lut_segments_max"), numerics.MAX_SEGMENTS)
    if len(segments) > most:
        raise Refused(
            f"its condition changes {len(segments) - 1} times over the codes of an int16 tensor, more than "
            f"the {most} segments of a table",
            "use int8 there, whose tables are exact",
        )
    if len(segments) == 2:
        first, rises = int(segments[1, 0]), bool(segments[1, 1])
        parts = {"x_zero": first - 1, "mult": 1} if rises else {"x_zero": first, "mult": -1}
        site.finish("Rescale", x=leaf.codes, **parts, shift=0, lo=0, hi=1)
        return
    table = site.rw.constant(f"{site.target}/segments", segments)
    site.finish("SegmentLut", x=leaf.codes, segments=table, lo=0, hi=1)


_OF_A_RANK = frozenset({"Gelu", "Erf"})
"""Functions that a march may have for one rank only (`gelu_rank`), wherever in a chain they are."""


def _moved(steps: Float64, low: int, high: int) -> float:
    """By how many steps a function moves where its operand is rounded to a code."""
    return float(np.abs(np.diff(np.clip(steps, low - 0.5, high + 0.5))).max()) / 2


def segments_of(
    site: Site, target: Float64, nodes: tuple[Node, ...], low: int, high: int, moved: float = 0.0
) -> Int64:
    """Return the line segments of a chain; raises Refused when they are too few for it.

    `moved`: by how many steps a rounding in front moves the result. The room for that is the whole of what
    may be beside the result's own rounding, so that what the lines miss has to fit into it as well.
    """
    most = min(site.limit("lut_segments_max"), numerics.MAX_SEGMENTS)
    segments = numerics.segment_table(target, low, high, most)
    error = numerics.segment_error(target, segments, low, high) + moved
    allowed = numerics.segment_allowance(target, low, high)
    if moved:
        allowed = max(allowed, 0.5 + ROOM[site.out_quant().dtype])
    if error > allowed:
        what = ", ".join(dict.fromkeys(node.op for node in reversed(nodes))) or "the function"
        raise Refused(
            numerics.segment_refusal(what, error, allowed, most),
            "use int8 there, whose tables are exact, or a narrower range of the input",
        )
    return segments


def _target(site: Site, leaf: Leaf, nodes: tuple[Node, ...], x: Float64) -> Float64:
    """Reals that the chain gives for every code, whose reals are `x`; NaN becomes 0."""
    chain = _Chain(site, leaf, list(nodes), through_casts=leaf.scaling is not FLAGS)
    with np.errstate(all="ignore"):
        y = np.broadcast_to(chain.evaluate(site.memo["end"], numerics.Real.of(x), {}).exact, x.shape)
    # What ONNX Runtime and NumPy cast NaN to differs; the BPU's table gives the zero point.
    limit = float(np.finfo(np.float32).max)
    real: Float64 = np.clip(np.nan_to_num(y, nan=0.0), -limit, limit)
    return real


def _rescale(site: Site, leaf: Leaf, slope: float, offset: float) -> None:
    """Exact integer rescale; the site's clamp becomes bounds on the codes."""
    site.finish("Rescale", **rescale_parts(leaf, site.out_quant(), site.bounds(), slope, offset))


def rescale_parts(
    leaf: Leaf, out: Scaling, bounds: tuple[int, int], slope: float = 1.0, offset: float = 0.0
) -> dict[str, Any]:
    """What a Rescale has to be given for slope · leaf + offset in codes of `out`, clamped to `bounds`."""
    fixed = numerics.fixed_point_sum((slope * leaf.s / out.s,), (float(leaf.reach),), offset / out.s)
    factor = {
        "mult": fixed.multipliers[0].item(),
        "offset": int(fixed.offset[0]),
        "shift": fixed.shift.item(),
    }
    return {"x": leaf.codes, "x_zero": leaf.z, **factor, "zero": out.z, "lo": bounds[0], "hi": bounds[1]}


def _multiplies(site: Site) -> bool:
    """Whether the march multiplies two tensors of the site's shape."""
    try:
        CHANNELS.check(site)
    except Refused:
        return False
    return True


def _product(site: Site, leaf: Leaf, square: numerics.Parabola) -> None:
    """Product of the tensor with itself, as x · x: exact."""
    out, info = site.out_quant(), np.iinfo(leaf.dtype)
    first, second = (max(info.max - p, p - info.min) for p in (square.first, square.second))
    fixed = numerics.fixed_point_sum(
        (square.factor / out.s,), (float(first * second),), square.offset / out.s
    )
    emit_binary(site, "mul", leaf.codes, leaf.codes, fixed, a_zero=square.first, b_zero=square.second)


def clamp_of(site: Site, node: Node) -> tuple[str, tuple[float, float]] | None:
    """Value and float bounds of a Relu, and of a Clip, Max or Min with constants; None for another node."""
    if node.domain != "" or node.op not in {"Relu", "Clip", "Max", "Min"}:
        return None
    if node.op == "Relu":
        return node.inputs[0], (0.0, np.inf)
    return _clip(site, node) if node.op == "Clip" else _extreme(site, node)


def _extreme(site: Site, node: Node) -> tuple[str, tuple[float, float]] | None:
    """Max(x, c) and Min(c, x) are clips that give one bound."""
    scalars = [scalar(site, name) for name in node.inputs]
    computed = [name for name, value in zip(node.inputs, scalars, strict=True) if value is None]
    if len(computed) != 1 or len(scalars) != 2 or not _keeps_shape(site, node, computed[0]):
        return None
    (bound,) = (float(value) for value in scalars if value is not None)
    return computed[0], (bound, np.inf) if node.op == "Max" else (-np.inf, bound)


def _keeps_shape(site: Site, node: Node, name: str) -> bool:
    return site.graph.values[name].shape == site.graph.values[node.outputs[0]].shape


def _clip(site: Site, node: Node) -> tuple[str, tuple[float, float]] | None:
    bounds = [-np.inf, np.inf]
    for index, name in enumerate(node.inputs[1:3]):
        if name:
            value = scalar(site, name)
            if value is None:
                return None
            bounds[index] = float(value)
    return node.inputs[0], (bounds[0], bounds[1])


def _origins(site: Site, nodes: tuple[Node, ...]) -> tuple[Origin, ...]:
    found = [o for node in reversed(nodes) for o in node.origins]
    return tuple(dict.fromkeys([*found, *site.origins]))


def _not_a_chain(site: Site) -> None:
    for index in range(len(site.node.inputs)):
        data = site.constant(index) if site.has(index) else np.zeros(0)
        if data is None:
            site.leaf(index)
        elif np.isnan(data).any():
            raise Refused(f"its constant '{site.node.inputs[index]}' is NaN", "check the export of the model")
    site.out_quant()
    raise Refused(
        "it is one of several operators between two roundings that no single table holds",
        f"{PAIR}behind each operator",
    )


RULES = tuple(
    OpRule(
        op,
        "VAE",
        "int8 → int8, int16; int16 → int8, int16",
        _not_a_chain,
        note="look-up table",
    )
    for op in UNARY
    if op != "Identity"
)


@form(Lut, "x table")
@form(SegmentLut, "x segments")
@form(Rescale, "x")
def _unary(b: Builder, node: Node) -> None:
    b.push(node)
