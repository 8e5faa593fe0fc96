"""Where: both sides on the grid of the result, each 0 where the other counts.

constant condition:   y = x1·mask + x2·(1 − mask)      a side that is constant is so beforehand
computed condition:   the same with the codes of the bool; with one number beside a tensor, x·c + n·(1 − c)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Int64
from openbpu.arch.dtypes import DType
from openbpu.compiler.ir import Array
from openbpu.compiler.ops.advice import LEAVE
from openbpu.compiler.ops.elementwise import CHANNELS
from openbpu.compiler.ops.rule import OpRule
from openbpu.compiler.ops.site import Refused, Site


@dataclass(frozen=True, slots=True)
class _Mask:
    """What a side is multiplied by, (code − zero) · sign: 1 where it counts, 0 where it does not."""

    codes: str
    zero: int
    sign: int


def _lower(site: Site) -> None:
    condition = site.graph.const(site.node.inputs[0])
    if condition is not None:
        _by_constant(site, np.asarray(condition, np.bool_))
        return
    codes = site.flag(site.node.inputs[0])
    if not codes:
        raise Refused(f"its condition '{site.node.inputs[0]}' is no bool of static shape", LEAVE)
    _by_computed(site, codes)


def _by_constant(site: Site, mask: Array) -> None:
    """Emit a product per computed side, and a sum where both sides count."""
    sides = [(i, chosen) for i, chosen in ((1, mask), (2, ~mask)) if chosen.any()]
    computed = [(i, chosen) for i, chosen in sides if site.constant(i) is None]
    constant = [_chosen(site, i, chosen) for i, chosen in sides if site.constant(i) is not None]
    terms = [name for name in constant if name]
    masks = {
        i: _Mask(site.rw.constant(f"{site.target}/mask{i}", chosen.astype(np.int8)), 0, 1)
        for i, chosen in computed
    }
    if len(computed) == 1 and not terms:
        _kept(site, computed[0][0], masks[computed[0][0]], site.target)
        return
    for index, _ in computed:
        terms.append(_term(site, index, site.out_shape()))
        _kept(site, index, masks[index], terms[-1])
    if not computed:
        raise Refused("both of its sides are constants", "fold them")
    _sum(site, *terms)


def _by_computed(site: Site, condition: str) -> None:
    """Emit what a bool chooses: a table of it, or products with it and a sum."""
    masks = {1: _Mask(condition, 0, 1), 2: _Mask(condition, 1, -1)}
    numbers = {i: _codes(site, i) - site.out_quant().z for i in (1, 2) if site.constant(i) is not None}
    scalars = {i: int(steps.reshape(())) for i, steps in numbers.items() if steps.size == 1}
    if len(scalars) == 2:
        _two_numbers(site, condition, scalars[1], scalars[2])
        return
    terms = []
    for index in {1, 2} - set(scalars):
        mask = masks[index]
        last = scalars.get(3 - index) == 0
        shape = np.broadcast_shapes(site.shape(index), site.rw.values[condition].shape or ())
        terms.append(site.target if last else _term(site, index, shape))
        if index in numbers:
            _kept_constant(site, index, mask, terms[-1], numbers[index])
        else:
            _kept(site, index, mask, terms[-1])
        if last:
            return
    if not scalars:
        _sum(site, *terms)
        return
    (index, number) = next(iter(scalars.items()))
    mask = masks[index]
    _add(site, terms[0], condition, (1, number * mask.sign), b_zero=mask.zero)


def _two_numbers(site: Site, condition: str, true: int, false: int) -> None:
    out, (low, high) = site.out_quant(), site.bounds()
    entries = np.where(numerics.codes(DType.INT8) == 0, false, true) + out.z
    table = site.rw.constant(f"{site.target}/table", np.clip(entries, low, high).astype(out.dtype))
    site.finish("Lut", x=condition, table=table)


def _term(site: Site, index: int, shape: tuple[int, ...]) -> str:
    return site.rw.value(f"{site.target}/kept{index}", shape, site.out_dtype, site.quant())


def _sum(site: Site, a: str, b: str) -> None:
    _add(site, a, b, (1, 1), b_zero=site.out_quant().z)


def _add(site: Site, a: str, b: str, factors: tuple[int, int], *, b_zero: int) -> None:
    """Emit the target, a + b in steps of the result."""
    reach = float(1 << (16 if site.out_dtype == "int16" else 8))
    fixed = numerics.fixed_point_sum(factors, (reach, reach))
    out, (low, high) = site.out_quant(), site.bounds()
    mults = [int(m[0]) for m in fixed.multipliers]
    site.finish(
        "Binary",
        a=a,
        b=b,
        fn="add",
        mult_a=mults[0],
        mult_b=mults[1],
        a_zero=out.z,
        b_zero=b_zero,
        offset=int(fixed.offset[0]),
        shift=fixed.shift.item(),
        zero=out.z,
        lo=low,
        hi=high,
    )


def _codes(site: Site, index: int) -> Int64:
    """Codes of a constant side on the grid of the result."""
    out, value = site.out_quant(), site.constant(index)
    if value is None or np.isnan(value).any():
        raise Refused(f"its constant '{site.node.inputs[index]}' is NaN", "check the export of the model")
    stored = site.graph.const(site.node.inputs[index]) is not None
    coded = numerics.quantize if stored else numerics.nearest  # the codes of a DQ are no float32
    return np.asarray(coded(value, out.s, out.z, DType(out.dtype))).astype(np.int64)


def _chosen(site: Site, index: int, mask: Array) -> str:
    """Codes of a constant side where `mask` holds, 0 elsewhere; "" where that is 0 everywhere."""
    out = site.out_quant()
    chosen = np.where(mask, _codes(site, index), out.z).astype(out.dtype)
    return site.rw.constant(f"{site.target}/{index}", chosen) if (chosen != out.z).any() else ""


def _kept(site: Site, index: int, mask: _Mask, target: str) -> None:
    """Emit the codes of a computed side on the result's grid where `mask` is 1, 0 elsewhere."""
    out, leaf = site.out_quant(), site.leaf(index)
    fixed = numerics.fixed_point_sum((mask.sign * leaf.s / out.s,), (float(leaf.reach),))
    _product(site, target, leaf.codes, leaf.z, mask, fixed)


def _kept_constant(site: Site, index: int, mask: _Mask, target: str, steps: Int64) -> None:
    """The same of constants, which are on the result's grid."""
    out = site.out_quant()
    codes = site.rw.constant(f"{site.target}/{index}", (steps + out.z).astype(out.dtype))
    fixed = numerics.fixed_point_sum((float(mask.sign),), (float(1 << 17),))
    _product(site, target, codes, out.z, mask, fixed)


def _product(site: Site, target: str, a: str, a_zero: int, mask: _Mask, fixed: numerics.FixedPoint) -> None:
    out = site.out_quant()
    info = np.iinfo(out.dtype)
    low, high = site.bounds() if target == site.target else (int(info.min), int(info.max))
    site.rw.set_quant(target, site.quant())
    site.emit(
        "Binary",
        target,
        a=a,
        b=mask.codes,
        fn="mul",
        mult_a=fixed.multipliers[0].item(),
        mult_b=0,
        a_zero=a_zero,
        b_zero=mask.zero,
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
        "bool; int8, int16 and constants → int8, int16",
        _lower,
        (CHANNELS,),
        note="products with the condition and a sum; a table where it is of the tensor it chooses from",
    ),
)
