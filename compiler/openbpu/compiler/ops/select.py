"""Where with a constant condition: both sides on the grid of the result, each 0 where the other counts."""

from __future__ import annotations

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.compiler.ir import Array
from openbpu.compiler.ops.elementwise import CHANNELS
from openbpu.compiler.ops.rule import OpRule
from openbpu.compiler.ops.site import Refused, Site


def _lower(site: Site) -> None:
    """Emit y = x1·mask + x2·(1 − mask): a product per computed side, a sum where both sides count."""
    out = site.out_quant()
    mask = _condition(site)
    sides = [(i, chosen) for i, chosen in ((1, mask), (2, ~mask)) if chosen.any()]
    computed = [(i, chosen) for i, chosen in sides if site.constant(i) is None]
    constant = [_constant(site, i, chosen) for i, chosen in sides if site.constant(i) is not None]
    terms = [name for name in constant if name]
    if len(computed) == 1 and not terms:
        _kept(site, *computed[0], site.target)
        return
    shape = site.out_shape()
    for index, chosen in computed:
        term = site.rw.value(f"{site.target}/kept{index}", shape, out.dtype, site.quant())
        _kept(site, index, chosen, term)
        terms.append(term)
    if not computed:
        raise Refused("both of its sides are constants", "fold them")
    reach = float(1 << (16 if out.dtype == "int16" else 8))
    fixed = numerics.fixed_point_sum((1.0, 1.0), (reach, reach))
    low, high = site.bounds()
    mults = [int(m[0]) for m in fixed.multipliers]
    site.finish(
        "Binary",
        a=terms[0],
        b=terms[1],
        fn="add",
        mult_a=mults[0],
        mult_b=mults[1],
        a_zero=out.z,
        b_zero=out.z,
        offset=int(fixed.offset[0]),
        shift=fixed.shift.item(),
        zero=out.z,
        lo=low,
        hi=high,
    )


def _condition(site: Site) -> Array:
    data = site.graph.const(site.node.inputs[0])
    if site.node.inputs[0] in site.graph.inputs:
        raise Refused(
            f"its condition '{site.node.inputs[0]}' is an input of the model",
            "feed it as floats of 0 and 1 with a Quantize/Dequantize pair, and choose by products: "
            "x · m + y · (1 - m)",
        )
    if data is None:
        raise Refused(
            f"its condition '{site.node.inputs[0]}' is computed",
            "make the mask a constant; a comparison of one tensor that chooses between that tensor and "
            "constants becomes a table",
        )
    return np.asarray(data, np.bool_)


def _constant(site: Site, index: int, mask: Array) -> str:
    """Codes of a constant side where `mask` holds, 0 elsewhere; "" where that is 0 everywhere."""
    out, value = site.out_quant(), site.constant(index)
    if value is None or np.isnan(value).any():
        raise Refused(f"its constant '{site.node.inputs[index]}' is NaN", "check the export of the model")
    stored = site.graph.const(site.node.inputs[index]) is not None
    coded = numerics.quantize if stored else numerics.nearest  # the codes of a DQ are no float32
    codes = coded(value, out.s, out.z, DType(out.dtype))
    chosen = np.where(mask, codes, np.asarray(out.z, codes.dtype))
    return site.rw.constant(f"{site.target}/{index}", chosen) if (chosen != out.z).any() else ""


def _kept(site: Site, index: int, mask: Array, target: str) -> None:
    """Emit the codes of a computed side on the result's grid where `mask` holds, 0 elsewhere."""
    out, leaf = site.out_quant(), site.leaf(index)
    info = np.iinfo(out.dtype)
    low, high = site.bounds() if target == site.target else (int(info.min), int(info.max))
    fixed = numerics.fixed_point_sum((leaf.s / out.s,), (float(leaf.reach),))
    site.rw.set_quant(target, site.quant())
    site.emit(
        "Binary",
        target,
        a=leaf.codes,
        b=site.rw.constant(f"{site.target}/mask{index}", mask.astype(np.int8)),
        fn="mul",
        mult_a=fixed.multipliers[0].item(),
        mult_b=0,
        a_zero=leaf.z,
        b_zero=0,
        offset=int(fixed.offset[0]),
        shift=fixed.shift.item(),
        zero=out.z,
        lo=low,
        hi=high,
    )


RULES = (
    OpRule(
        "Where",
        "VAE",
        "int8, int16 and constants → int8, int16",
        _lower,
        (CHANNELS,),
        note="constant condition: products with the mask and a sum; a condition computed from the tensor it "
        "chooses from: a table",
    ),
)
