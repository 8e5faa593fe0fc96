"""What operators that move codes share: reading the codes, intermediate values, taking along an axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from openbpu.compiler.ops.advice import no_codes, not_constant
from openbpu.compiler.ops.mechanical import PAIR
from openbpu.compiler.ops.site import Refused, Site

CODES = ("int8", "int16", "int32")


def source_codes(site: Site) -> str:
    """Return input 0, the codes (or the indices) to move; the target means what they mean.

    Refuses floats: a Dequantize that could not sink below the node is in front of it.
    """
    name = site.node.inputs[0]
    value = site.rw.values[name]
    if value.dtype not in CODES and not site.moves_indices:
        raise _no_codes(site, name)
    if value.quant is not None:
        site.rw.set_quant(site.target, value.quant)
    return name


def _no_codes(site: Site, name: str) -> Refused:
    """Why the node still reads floats: they are no codes, or the Dequantize in front could not pass it."""
    computed = [n for n in site.node.inputs[1:] if n and site.graph.const(n) is None]
    if computed:
        return not_constant(site.graph, site.producers, computed[0], "its input")
    leaf = site.leaf_or_none(name)
    if leaf is None:
        return no_codes(site.graph, site.producers, site.node, name, f"{PAIR}in front of it")
    if not leaf.scaling.per_tensor:
        return Refused(f"its input '{name}' is quantized per channel", "quantize activations per tensor")
    site.out_shape()
    return Refused(
        f"its pad value is no code of its input '{name}' (scale {leaf.s:g})",
        "pad with a multiple of the scale",
    )


def intermediate(site: Site, stem: str, shape: Sequence[int]) -> str:
    """Declare a value of the type and meaning of input 0 on the way to the target; returns its name."""
    source = site.rw.values[site.node.inputs[0]]
    return site.rw.value(f"{site.target}/{stem}", shape, source.dtype, source.quant)


def gather_axis(site: Site, source: str, target: str, axis: int, index: npt.NDArray[np.int32]) -> None:
    """Emit target = source taken at `index` along `axis`; the target's shape may drop or split that axis.

    An arithmetic sequence of indices becomes a Slice.
    """
    steps = np.unique(np.diff(index))
    shape = site.rw.values[source].shape or ()
    gathered = (*shape[:axis], index.size, *shape[axis + 1 :])
    same = gathered == site.rw.values[target].shape
    out = target if same else intermediate(site, "gathered", gathered)
    if index.size == 1 or (steps.size == 1 and steps[0] != 0):
        rank = len(shape)
        starts = tuple(int(index[0]) if i == axis else 0 for i in range(rank))
        stride = tuple(int(steps[0]) if i == axis and index.size > 1 else 1 for i in range(rank))
        site.rw.bpu("Slice", out, site.origins, x=source, starts=starts, steps=stride)
    else:
        table = site.rw.constant(f"{target}/indices", index.astype(np.int32))
        site.rw.bpu("Gather", out, site.origins, x=source, indices=table, axis=axis)
    if not same:
        site.rw.bpu("Reshape", target, site.origins, x=out)
