"""The axes that an operator reduces."""

from __future__ import annotations

from openbpu.compiler.ops.advice import not_constant
from openbpu.compiler.ops.site import Site


def axes_of(site: Site) -> tuple[int, ...]:
    """Reduced axes, sorted and non-negative."""
    rank = len(site.shape())
    if site.node.op.startswith("Global"):
        return tuple(range(2, rank))
    axes = site.node.attrs.get("axes")
    if axes is None and site.has(1):
        data = site.graph.const(site.node.inputs[1])
        if data is None:
            raise not_constant(site.graph, site.producers, site.node.inputs[1], "its tensor of axes")
        axes = tuple(data.reshape(-1).tolist())
    if not axes:
        if site.node.attrs.get("noop_with_empty_axes", 0):
            return ()
        axes = range(rank)
    return tuple(sorted({int(a) % rank for a in axes}))
