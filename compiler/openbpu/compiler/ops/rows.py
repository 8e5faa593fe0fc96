"""Softmax, LayerNormalization, RMSNormalization: functions of rows, decomposed inside the vector engine."""

from __future__ import annotations

from math import prod

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.program import LayerNorm, Softmax
from openbpu.compiler.ir import Array, Node
from openbpu.compiler.ir.dialect import Builder, form, operand
from openbpu.compiler.ops.mechanical import FACTORS
from openbpu.compiler.ops.ranks import of_rank, on_view
from openbpu.compiler.ops.rule import Limit, OpRule, Violation, in_range
from openbpu.compiler.ops.site import Leaf, Refused, Site
from openbpu.compiler.ops.tensor_engine import require_finite


def _axis(site: Site) -> int:
    rank = len(site.shape())
    return int(site.node.attrs.get("axis", -1)) % max(rank, 1)


def _axis_last(site: Site, codes: str, axis: int) -> tuple[str, tuple[int, ...]]:
    """Move `axis` to the end; returns the value and the permutation that did it."""
    value = site.rw.values[codes]
    shape = value.shape or ()
    perm = (*(i for i in range(len(shape)) if i != axis), axis)
    if axis == len(shape) - 1:
        return codes, perm
    out = site.rw.value(f"{codes}/rows", tuple(shape[i] for i in perm), value.dtype, value.quant)
    site.rw.bpu("Transpose", out, site.origins, x=codes, perm=perm)
    return out, perm


def _lower_softmax(site: Site) -> None:
    """Emit Softmax over the last axis, of a view of the one rank that the march has it for."""
    x, axis = site.leaf(0), _axis(site)
    source, perm = _axis_last(site, x.codes, axis)
    shape = site.rw.values[source].shape or ()
    # The axis is the last now; ones in front of it where the march wants more of them.
    rank = site.limit("softmax_rank") or max(len(shape), site.limit("softmax_axis_min") + 1)
    view = of_rank(shape, rank)
    if source == x.codes:
        on_view(site, source, view, lambda codes: _softmax_last(site, x, codes))
        return
    target = site.target
    site.target = site.rw.value(f"{target}/rows", shape, site.out_dtype, site.quant())
    on_view(site, source, view, lambda codes: _softmax_last(site, x, codes))
    y, site.target = site.target, target
    site.rw.set_quant(target, site.quant())
    site.rw.bpu("Transpose", target, site.origins, x=y, perm=tuple(int(i) for i in np.argsort(perm)))


def _softmax_last(site: Site, x: Leaf, source: str) -> None:
    out = site.out_quant()
    _require_coarse(
        out.s, numerics.MIN_PROBABILITY_STEP, "quantize probabilities over 0..1, or a smaller share"
    )
    mult, shift = numerics.exp_factor(x.s)
    out_mult, out_shift = numerics.fixed_point(1.0 / (out.s * 2.0**31))
    low, high = site.bounds()
    table = site.rw.constant("softmax/exp", numerics.exp_table())
    site.rw.set_quant(site.target, site.quant())
    site.rw.bpu(
        "Softmax",
        site.target,
        site.origins,
        site.node.name,
        x=source,
        exp=table,
        mult=mult,
        shift=shift,
        out_mult=out_mult.item(),
        out_shift=out_shift.item(),
        zero=out.z,
        lo=low,
        hi=high,
    )


def _require_coarse(scale: float, least: float, fix: str = "calibrate with larger values") -> None:
    """Refuse a scale of the output that is finer than what the arithmetic tells apart."""
    if scale < least:
        raise Refused(f"the scale of its output must be at least {least:.3g}, not {scale:.3g}", fix)


def _lower_layernorm(site: Site) -> None:
    if len([o for o in site.node.outputs if o]) != 1:
        raise Refused("it also returns mean and deviation", "use the normalized values only")
    x, out = site.leaf(0), site.out_quant()
    axis = _axis(site)
    length = int(np.prod(site.shape()[axis:]))
    gain, bias = site.constant(1), site.constant(2)
    if length > numerics.MAX_NORM_LENGTH:
        most = f"the elements it normalizes together must be at most {numerics.MAX_NORM_LENGTH}"
        raise Refused(f"{most}, not {length}", "normalize over fewer axes")
    if gain is None or (bias is None and site.has(2)):
        raise Refused(
            "its scale and bias must be constants",
            FACTORS,
        )
    centred = site.node.op != "RMSNormalization"
    if max(gain.ndim, bias.ndim if bias is not None else 0) > len(site.shape()) - axis:
        raise Refused("its scale and bias must be one per normalized element", FACTORS)
    require_finite(gain, bias)
    gains = np.broadcast_to(gain, site.shape()[axis:]).reshape(-1) if gain.size > 1 else gain.reshape(-1)
    biases = _bias(bias, gains, site.shape()[axis:])
    unit = numerics.norm_unit(length, centred=centred)
    _require_coarse(out.s, numerics.MIN_NORM_STEP * unit * float(np.abs(gains).max()))
    factors = gains / out.s * unit
    fixed = numerics.fixed_point_sum((factors,), (numerics.MAX_NORMALIZED,), biases / out.s)
    shift = int(fixed.shift.min())
    one = 2.0**shift
    gain_name = site.rw.constant(f"{site.target}/gain", np.rint(factors * one).astype(np.int64))
    bias_name = site.rw.constant(f"{site.target}/bias", np.rint(biases / out.s * one).astype(np.int64))
    steps = float(site.node.attrs.get("epsilon", 1e-5)) / x.s**2
    epsilon, epsilon_shift = numerics.norm_epsilon(steps, length, centred=centred)
    low, high = site.bounds()
    view, rank = site.shape(), site.limit("layernorm_rank")
    if rank not in (0, len(view)):
        view = of_rank((prod(view[:axis]), length), rank)
    attrs = {"length": length, "epsilon": epsilon, "epsilon_shift": epsilon_shift, "centred": centred}
    codes = {"x_zero": x.z, "shift": shift, "zero": out.z, "lo": low, "hi": high}
    on_view(
        site,
        x.codes,
        view,
        lambda source: site.finish("LayerNorm", x=source, gain=gain_name, bias=bias_name, **attrs, **codes),
    )


def _bias(bias: Array | None, gains: Array, shape: tuple[int, ...]) -> Array:
    if bias is None:
        return np.zeros(gains.shape)
    return np.broadcast_to(bias, shape).reshape(-1) if bias.size > 1 or gains.size > 1 else bias.reshape(-1)


def _length(site: Site) -> Violation:
    return in_range(site.shape()[_axis(site)], 1, site.limit("reduce_axis_max"))


_DTYPES = "int8, int16 → int8, int16"

RULES = (
    OpRule(
        "Softmax",
        "VAE",
        _DTYPES,
        _lower_softmax,
        (
            Limit(
                "the axis must be 1..{reduce_axis_max} long",
                _length,
                "normalize over fewer elements, or leave it to the CPU",
            ),
        ),
        note="integer exponentials, one reciprocal per row; ±0.6 steps",
    ),
    OpRule(
        "LayerNormalization",
        "VAE",
        _DTYPES,
        _lower_layernorm,
        (
            Limit(
                "the axis must be 1..{reduce_axis_max} long",
                _length,
                "normalize over fewer elements, or leave it to the CPU",
            ),
        ),
        note="integer variance and root per row; ±0.51 steps",
    ),
    OpRule(
        "RMSNormalization",
        "VAE",
        _DTYPES,
        _lower_layernorm,
        (
            Limit(
                "the axis must be 1..{reduce_axis_max} long",
                _length,
                "normalize over fewer elements, or leave it to the CPU",
            ),
        ),
        note="as LayerNormalization, not centred; ±0.51 steps",
    ),
)


@form(Softmax, "x exp", geometry="shape")
def _softmax(b: Builder, node: Node) -> None:
    *outer, length = b.shape(operand(node, "x"))
    b.push(node, shape=(prod(outer), length))


@form(LayerNorm, "x gain bias", geometry="shape", extra="length")
def _layernorm(b: Builder, node: Node) -> None:
    length = node.attrs["length"]
    b.push(node, shape=(prod(b.shape(operand(node, "x"))) // length, length))
