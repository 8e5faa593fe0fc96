"""Reductions: ReduceMean, ReduceSum, ReduceMax, ReduceMin, GlobalAveragePool, GlobalMaxPool."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from openbpu.arch import numerics
from openbpu.compiler.ops.rule import Limit, OpRule, Violation, in_range
from openbpu.compiler.ops.site import Refused, Site

_INT32_MAX = 2**31 - 1


def axes_of(site: Site) -> tuple[int, ...]:
    """Reduced axes, sorted and non-negative."""
    rank = len(site.shape())
    if site.node.op.startswith("Global"):
        return tuple(range(2, rank))
    axes = site.node.attrs.get("axes")
    if axes is None and site.has(1):
        data = site.graph.const(site.node.inputs[1])
        if data is None:
            raise Refused("its axes are computed", "make the axes constant")
        axes = tuple(data.reshape(-1).tolist())
    if not axes:
        if site.node.attrs.get("noop_with_empty_axes", 0):
            return ()
        axes = range(rank)
    return tuple(sorted({int(a) % rank for a in axes}))


def _lower(fn: str, *, mean: bool = False) -> Callable[[Site], None]:
    def lower(site: Site) -> None:
        x, out, axes = site.leaf(0), site.out_quant(), axes_of(site)
        if not axes:
            raise Refused("it reduces no axis", "remove it")
        count = int(np.prod([site.shape()[a] for a in axes]))
        reach = x.reach * (count if fn == "sum" else 1)
        if reach > _INT32_MAX:
            raise Refused(f"a sum of {count} elements of {x.dtype} may leave int32", "reduce in two steps")
        fixed = numerics.fixed_point_sum((x.s / out.s / (count if mean else 1),), (float(reach),))
        low, high = site.bounds()
        site.finish(
            "Reduce",
            (x.codes,),
            fn=fn,
            axes=axes,
            x_zero=x.z,
            mult=int(fixed.multipliers[0][0]),
            shift=int(fixed.shift[0]),
            zero=out.z,
            lo=low,
            hi=high,
        )

    return lower


def _axis(site: Site) -> Violation:
    sizes = [site.shape()[a] for a in axes_of(site)]
    return in_range(int(max(sizes, default=1)), 1, site.limit("reduce_axis_max"))


LIMITS = (Limit("reduced axes must be 1..{reduce_axis_max} long", _axis, "reduce in two steps"),)
_DTYPES = "int8, int16 → int8, int16"

RULES = (
    OpRule("ReduceMean", "VAE", _DTYPES, _lower("sum", mean=True), LIMITS),
    OpRule("ReduceSum", "VAE", _DTYPES, _lower("sum"), LIMITS),
    OpRule("ReduceMax", "VAE", _DTYPES, _lower("max"), LIMITS),
    OpRule("ReduceMin", "VAE", _DTYPES, _lower("min"), LIMITS),
    OpRule("GlobalAveragePool", "VAE", _DTYPES, _lower("sum", mean=True), LIMITS),
    OpRule("GlobalMaxPool", "VAE", _DTYPES, _lower("max"), LIMITS),
)
