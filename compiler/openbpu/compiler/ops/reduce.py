"""Reductions: ReduceMean, ReduceSum, ReduceMax, ReduceMin, GlobalAveragePool, GlobalMaxPool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.program import Reduce
from openbpu.arch.shapes import dense_strides
from openbpu.compiler.ir import Node
from openbpu.compiler.ir.dialect import Builder, form, operand, with_operand
from openbpu.compiler.ops.axes import axes_of
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
    if most * count > _INT32_MAX:
        raise Refused(f"a sum of {count} elements of up to {most:.0f} may leave int32", "reduce in two steps")
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
        raise Refused("it reduces no axis", "remove it")
    needed = count_of(site) * DType(site.rw.values[codes].dtype).nbytes
    room = site.march.chip_bytes - site.march.alignment  # the result has a line of its own
    if needed > room:
        raise Refused(
            f"the {needed} bytes it reduces to one element must be at most {room}, which fit on chip",
            "reduce in two steps",
        )
    return axes


def _scaling(ratio: float, reach: float) -> dict[str, int]:
    fixed = numerics.fixed_point_sum((ratio,), (float(reach),))
    return {"mult": fixed.multipliers[0].item(), "shift": fixed.shift.item()}


def _axis(site: Site) -> Violation:
    sizes = [site.shape()[a] for a in axes_of(site)]
    return in_range(int(max(sizes, default=1)), 1, site.limit("reduce_axis_max"))


LIMITS = (Limit("reduced axes must be 1..{reduce_axis_max} long", _axis, "reduce in two steps"),)
_DTYPES = "int8, int16 → int8, int16"

RULES = (
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
