"""Along axes: sums, means, extremes and where they are (ArgMax, ArgMin), running sums (CumSum)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.operators.reduce import ArgReduce, CumSum
from openbpu.arch.program import Reduce
from openbpu.arch.shapes import around, dense_strides
from openbpu.compiler.ir import Node
from openbpu.compiler.ir.dialect import Builder, form, operand, with_operand
from openbpu.compiler.ops.advice import not_constant
from openbpu.compiler.ops.axes import axes_of
from openbpu.compiler.ops.mechanical import NOTHING, TWO_AXES
from openbpu.compiler.ops.rule import Limit, OpRule, Violation, in_range
from openbpu.compiler.ops.site import Refused, Site

_INT32_MAX = 2**31 - 1


def count_of(site: Site) -> int:
    """How many elements are reduced to one."""
    return int(np.prod([site.shape()[a] for a in axes_of(site)]))


def lower_sum(
    site: Site, codes: str, x_zero: int, ratio: float, most: float, *, out: str | None = None, **bounds: int
) -> None:
    """Emit Σ (codes − x_zero) · ratio over the site's axes as the codes `out` (None: the site's result).

    most: largest |code − x_zero|; bounds: zero, lo, hi. Raises Refused where the sum may leave int32, or what
    is summed does not fit on chip.
    """
    axes, count = _axes(site, codes), count_of(site)
    _need_int32(count, most, "reduce in two steps")
    scaling = _scaling(ratio, most * count)
    attrs = {"fn": "sum", "axes": axes, "x_zero": x_zero, **scaling, **bounds}
    if out is None:
        site.finish("Reduce", x=codes, **attrs)
    else:
        site.emit("Reduce", out, x=codes, **attrs)


def _sum(*, mean: bool = False) -> Callable[[Site], None]:
    def lower(site: Site) -> None:
        x, out = site.leaf(0), site.out_quant()
        count = count_of(site) if mean else 1
        low, high = site.bounds()
        lower_sum(site, x.codes, x.z, x.s / out.s / count, x.reach, zero=out.z, lo=low, hi=high)

    return lower


def _extreme(fn: str) -> Callable[[Site], None]:
    def lower(site: Site) -> None:
        x, out = site.leaf(0), site.out_quant()
        axes = _axes(site, x.codes)
        low, high = site.bounds()
        scaling = _scaling(x.s / out.s, x.reach)
        attrs = {"fn": fn, "axes": axes, "x_zero": x.z, **scaling, "zero": out.z, "lo": low, "hi": high}
        site.finish("Reduce", x=x.codes, **attrs)

    return lower


def _axes(site: Site, codes: str) -> tuple[int, ...]:
    """The axes along which `codes` are reduced; refuses none, and more than fits on chip in one tile."""
    axes = axes_of(site)
    if not axes:
        raise Refused("it reduces no axis", NOTHING)
    need_room(site, "it reduces to one element", count_of(site) * DType(site.rw.values[codes].dtype).nbytes)
    return axes


def _need_int32(count: int, most: float, fix: str) -> None:
    if most * count > _INT32_MAX:
        raise Refused(f"a sum of {count} elements of up to {most:.0f} may leave int32", fix)


def need_room(site: Site, what: str, needed: int) -> None:
    """What one element of the result is made of is never cut, and is on chip as a whole."""
    room = site.march.chip_bytes - site.march.alignment  # the result has a line of its own
    if needed > room:
        raise Refused(
            f"the {needed} bytes {what} must be at most {room}, which fit on chip", "reduce in two steps"
        )


def _scaling(ratio: float, reach: float) -> dict[str, int]:
    fixed = numerics.fixed_point_sum((ratio,), (float(reach),))
    return {"mult": fixed.multipliers[0].item(), "shift": fixed.shift.item()}


def _axis(site: Site) -> Violation:
    sizes = [site.shape()[a] for a in axes_of(site)]
    return in_range(int(max(sizes, default=1)), 1, site.limit("reduce_axis_max"))


LIMITS = (Limit("reduced axes must be 1..{reduce_axis_max} long", _axis, TWO_AXES),)
_DTYPES = "int8, int16 → int8, int16"


def _lower_cumsum(site: Site) -> None:
    x, out, attrs = site.leaf(0), site.out_quant(), site.node.attrs
    axis = _axis_of_cumsum(site)
    length = site.shape()[axis]
    _need_int32(length, x.reach, _SPLIT)
    both = (DType(dtype).nbytes for dtype in (site.rw.values[x.codes].dtype, site.out_dtype))
    need_room(site, "along its axis", length * sum(both))
    low, high = site.bounds()
    ways = {way: bool(attrs.get(way, 0)) for way in ("exclusive", "reverse")}
    scaling = _scaling(x.s / out.s, x.reach * length)
    site.finish("CumSum", x=x.codes, axis=axis, **ways, x_zero=x.z, **scaling, zero=out.z, lo=low, hi=high)


def _axis_of_cumsum(site: Site) -> int:
    """The axis, non-negative; refuses one that is computed, or that the tensor does not have."""
    given, rank = site.graph.const(site.node.inputs[1]), len(site.shape())
    if given is None:
        raise not_constant(site.graph, site.producers, site.node.inputs[1], "its axis")
    axis = int(given.reshape(()))
    if not -rank <= axis < rank:
        raise Refused(f"its axis must be {-rank}..{rank - 1}, not {axis}", "give it an axis of its input")
    return axis % rank


def _summed(site: Site) -> Violation:
    return in_range(site.shape()[_axis_of_cumsum(site)], 1, site.limit("cumsum_axis_max"))


_SPLIT = "split the axis, and add the last sum of each part to the next part"
_SUMMED = Limit("the axis must be 1..{cumsum_axis_max} long", _summed, _SPLIT)


def _lower_index(fn: str) -> Callable[[Site], None]:
    def lower(site: Site) -> None:
        x, axis = site.leaf(0), _axis_of_index(site)
        need_room(site, "along its axis", site.shape()[axis] * DType(x.dtype).nbytes)
        last = bool(site.node.attrs.get("select_last_index", 0))
        site.emit("ArgReduce", site.target, x=x.codes, fn=fn, axes=(axis,), last=last)

    return lower


def _axis_of_index(site: Site) -> int:
    return int(site.node.attrs.get("axis", 0)) % len(site.shape())


def _searched(site: Site) -> Violation:
    return in_range(site.shape()[_axis_of_index(site)], 1, site.limit("arg_axis_max"))


def _only_axis(site: Site) -> Violation:
    axis, only = _axis_of_index(site), site.limit("arg_axis_only")
    return None if axis == only else str(axis)


_FIRST = "indices as int64, or what a Cast behind it wants"
_INDEX = "int8, int16 → integers"
_SEARCHED = (
    Limit("the axis must be number {arg_axis_only}", _only_axis, "transpose it there", when="arg_axis_only"),
    Limit(
        "the axis must be 1..{arg_axis_max} long",
        _searched,
        "split it, and compare the extremes of the parts",
    ),
)

RULES = (
    OpRule("ArgMax", "VAE", _INDEX, _lower_index("max"), _SEARCHED, clamps=False, note=_FIRST),
    OpRule("ArgMin", "VAE", _INDEX, _lower_index("min"), _SEARCHED, clamps=False, note=_FIRST),
    OpRule("CumSum", "VAE", _DTYPES, _lower_cumsum, (_SUMMED,), note="exclusive, reverse"),
    OpRule("ReduceMean", "VAE", _DTYPES, _sum(mean=True), LIMITS),
    OpRule("ReduceSum", "VAE", _DTYPES, _sum(), LIMITS),
    OpRule("ReduceMax", "VAE", _DTYPES, _extreme("max"), LIMITS),
    OpRule("ReduceMin", "VAE", _DTYPES, _extreme("min"), LIMITS),
    OpRule("GlobalAveragePool", "VAE", _DTYPES, _sum(mean=True), LIMITS),
    OpRule("GlobalMaxPool", "VAE", _DTYPES, _extreme("max"), LIMITS),
)


@form(Reduce, "x", geometry="shape", extra="axes")
def _reduce(b: Builder, node: Node) -> None:
    """Axes [A, R, B]; reduced axes with others between them are first moved to the end."""
    shape, axes = b.shape(operand(node, "x")), node.attrs["axes"]
    long = [a for a in axes if shape[a] != 1] or list(axes[:1])
    kept = [a for a in range(len(shape)) if a not in long]
    reduced = prod([shape[a] for a in long])
    if not any(a not in long and shape[a] != 1 for a in range(long[0], long[-1] + 1)):
        b.push(node, shape=(prod(shape[: long[0]]), reduced, prod(shape[long[-1] + 1 :])))
        return
    moved = with_operand(node, "x", _to_end(b, node, kept, long))
    b.push(moved, shape=(prod([shape[a] for a in kept]), reduced, 1))


def _to_end(b: Builder, node: Node, kept: Sequence[int], last: Sequence[int]) -> str:
    """Append a transpose of the input into a temporary tensor that ends in the axes `last`; returns it."""
    source = operand(node, "x")
    shape, perm = b.shape(source), (*kept, *last)
    moved, strides = tuple(shape[i] for i in perm), dense_strides(shape)
    target = b.temporary(f"{node.outputs[0]}/moved", moved, source)
    b.push_move(source, target, moved, tuple(strides[i] for i in perm))
    return target


@form(CumSum, "x", geometry="shape", extra="axis")
def _cumsum(b: Builder, node: Node) -> None:
    b.push(node, shape=around(b.shape(operand(node, "x")), node.attrs["axis"]))


@form(ArgReduce, "x", geometry="shape", extra="axes")
def _index(b: Builder, node: Node) -> None:
    (axis,) = node.attrs["axes"]
    b.push(node, shape=around(b.shape(operand(node, "x")), axis))
