"""Element-wise operators of two tensors, and affines per channel as depthwise convolutions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Float64
from openbpu.arch.program import Binary
from openbpu.arch.shapes import broadcast_strides, collapse
from openbpu.compiler.ir import Array, Node
from openbpu.compiler.ir.dialect import Builder, form, operand
from openbpu.compiler.ops.layout import from_nhwc, image_shape, to_nhwc
from openbpu.compiler.ops.mechanical import IMAGE
from openbpu.compiler.ops.rule import Limit, OpRule, Violation, in_range
from openbpu.compiler.ops.site import Leaf, Refused, Site, doubles
from openbpu.compiler.ops.tensor_engine import Convolution, Geometry, emit_conv


def emit_binary(site: Site, fn: str, a: str, b: str, fixed: numerics.FixedPoint, **attrs: int) -> None:
    """Emit the Binary that makes the target of `fn` of the codes a and b."""
    low, high = site.bounds()
    mults = [int(m[0]) for m in fixed.multipliers]
    site.finish(
        "Binary",
        a=a,
        b=b,
        fn=fn,
        mult_a=mults[0],
        mult_b=mults[1] if len(mults) > 1 else 0,
        offset=int(fixed.offset[0]),
        shift=fixed.shift.item(),
        zero=site.out_quant().z,
        lo=low,
        hi=high,
        **attrs,
    )


def _linear(sign: float, fn: str, gain: float = 1.0) -> Callable[[Site], None]:
    """Gain · (a ± b), or the larger or smaller of two tensors."""

    def lower(site: Site) -> None:
        if fn == "add" and gain == 1.0 and len(site.node.inputs) == 2 and per_channel(site) is not None:
            _affine(site, sign)
            return
        if len(site.node.inputs) != 2:
            _chained(site, fn, gain)
            return
        a, b = site.leaf(0), site.leaf(1)
        unit = site.out_quant().s / gain
        reach = float(a.reach), float(b.reach)
        fixed = numerics.fixed_point_sum((a.s / unit, sign * b.s / unit), reach, every=True)
        emit_binary(site, fn, a.codes, b.codes, fixed, a_zero=a.z, b_zero=b.z)

    return lower


_SUM_BITS = 28
"""A sum of many tensors is carried in int32 whose range is used to this bit: far finer than a step."""


def _chained(site: Site, fn: str, gain: float) -> None:
    """Emit fn of one tensor, or of many: a chain of twos.

    max and min: on the grid of the result, where rounding keeps the order, so nothing is lost. add: on a grid
    of int32, and rounded to that of the result once, with the last tensor; Mean divides by their number.
    """
    leaves = [site.leaf(i) for i in range(len(site.node.inputs))]
    out, count = site.out_quant(), len(leaves)
    if count == 1:
        leaves, count = [leaves[0], leaves[0]], 2
        gain = 0.5 if fn == "add" else gain
    factor = 2 * gain / count if site.node.op == "Mean" else gain
    sums = fn == "add"
    total = sum(leaf.s * leaf.reach for leaf in leaves)
    unit = total / 2.0**_SUM_BITS if sums else out.s
    first, (scale, zero, reach) = leaves[0].codes, (leaves[0].s, leaves[0].z, float(leaves[0].reach))
    for index, leaf in enumerate(leaves[1:], 1):
        last = index == count - 1
        step = out.s / factor if last and sums else out.s if last else unit
        fixed = numerics.fixed_point_sum(
            (scale / step, leaf.s / step), (reach, float(leaf.reach)), every=True
        )
        zeros = {"a_zero": zero, "b_zero": leaf.z}
        if last:
            emit_binary(site, fn, first, leaf.codes, fixed, **zeros)
            return
        dtype = "int32" if sums else out.dtype
        info = np.iinfo(dtype)
        made = site.declare(f"{site.target}/{fn}{index}", _broadcast(site, index), dtype)
        site.emit(
            "Binary",
            made,
            a=first,
            b=leaf.codes,
            fn=fn,
            mult_a=int(fixed.multipliers[0][0]),
            mult_b=int(fixed.multipliers[1][0]),
            offset=int(fixed.offset[0]),
            shift=fixed.shift.item(),
            zero=0 if sums else out.z,
            lo=int(info.min),
            hi=int(info.max),
            **zeros,
        )
        first, scale, zero = made, unit, 0 if sums else out.z
        reach = 2.0**_SUM_BITS if sums else float(max(info.max - out.z, out.z - info.min))


def _broadcast(site: Site, last: int) -> tuple[int, ...]:
    """The shape of the operands up to `last` together."""
    return tuple(np.broadcast_shapes(*(site.shape(i) for i in range(last + 1))))


def _lower_mul(site: Site) -> None:
    if per_channel(site) is not None:
        _affine(site, 1.0)
        return
    a, b = site.leaf(0), site.leaf(1)
    fixed = numerics.fixed_point_sum((a.s * b.s / site.out_quant().s,), (float(a.reach * b.reach),))
    emit_binary(site, "mul", a.codes, b.codes, fixed, a_zero=a.z, b_zero=b.z)


def _lower_prelu(site: Site) -> None:
    x, slope = site.leaf(0), site.leaf(1)
    out = site.out_quant()
    fixed = numerics.fixed_point_sum(
        (x.s / out.s, x.s * slope.s / out.s), (float(x.reach), float(x.reach * slope.reach)), every=True
    )
    emit_binary(site, "prelu", x.codes, slope.codes, fixed, a_zero=x.z, b_zero=slope.z)


def _lower_div(site: Site) -> None:
    """A / b as a · table(b): the table holds int32 reciprocals of the 256 codes, so b must be int8.

    A constant per channel is a factor: exact, as the product with its reciprocal is.
    """
    found = per_channel(site)
    if found is not None and found[0] == 0:
        if not found[1].all():
            raise Refused("it divides by a constant that is 0", "check the export of the model")
        _affine(site, 1.0)
        return
    a, b = site.leaf(0), site.leaf(1, ("int8",))
    out = site.out_quant()
    table, unit = numerics.reciprocal_table(b.z)
    name = site.rw.constant(f"{site.target}/reciprocal", table)
    mid = site.rw.value(f"{site.target}/reciprocal/q", b.shape, "int32")
    site.emit("Lut", mid, x=b.codes, table=name)
    factor = a.s * (unit / b.s) / out.s
    fixed = numerics.fixed_point_sum((factor,), (float(a.reach) * 2.0 ** (numerics.RECIPROCAL_BITS + 4),))
    emit_binary(site, "mul", a.codes, mid, fixed, a_zero=a.z, b_zero=0)


# --- x · constant per channel, x + constant per channel -----------------------------------------------------


def per_channel(site: Site) -> tuple[int, Float64] | None:
    """(index of the tensor, constant per channel) of an operator with a float constant along axis 1."""
    for index in (0, 1):
        data = site.graph.const(site.node.inputs[index])
        if data is None or data.size == 1 or data.dtype.kind != "f":
            continue
        shape = site.shape(1 - index)
        padded = (1,) * (len(shape) - data.ndim) + data.shape
        if len(shape) in (3, 4, 5) and len(padded) == len(shape) and padded[1] == data.size == shape[1]:
            return 1 - index, doubles(data.reshape(-1))
    return None


def _affine(site: Site, sign: float) -> None:
    """Lower x · g or x ± c per channel to a 1×1 depthwise convolution of ones: exact, one factor each."""
    found = per_channel(site)
    if found is None:
        raise Refused("its constant is not one value per channel", "quantize the constant")
    index, value = found
    channels = value.size
    ones, zeros = np.ones(channels), np.zeros(channels)
    if site.node.op in {"Mul", "Div"}:
        site.affine = (value if site.node.op == "Mul" else 1 / value, zeros)
    elif index == 0:
        site.affine = (ones, sign * value)
    else:
        site.affine = (sign * ones, value)
    affine_conv(site, site.leaf(index))


def affine_conv(site: Site, x: Leaf) -> None:
    """Emit the site's affine as a depthwise convolution over `x`."""
    site.out_quant()
    channels = x.shape[1]
    conv = Convolution(
        x,
        to_nhwc(site, x.codes),
        np.ones((channels, 1, 1, 1), np.int8),
        np.ones(1),
        None,
        (*image_shape(x.shape), channels),
        Geometry(groups=channels),
    )
    emit_conv(site, conv, lambda nhwc, target: from_nhwc(site, nhwc, target))


def batch_norm(site: Site) -> tuple[Array, Array] | None:
    """(gain, bias) per channel of a BatchNormalization in inference with constant parameters, float64."""
    parts = [site.constant(i) for i in range(1, 5)]
    if any(p is None for p in parts) or site.node.attrs.get("training_mode", 0):
        return None
    scale, beta, mean, var = (np.asarray(p, np.float64) for p in parts)
    with np.errstate(all="ignore"):  # what is not finite is refused where it is used
        gain = scale / np.sqrt(var + float(site.node.attrs.get("epsilon", 1e-5)))
        return gain, beta - mean * gain


def _lower_batch_norm(site: Site) -> None:
    folded = batch_norm(site)
    if folded is None:
        raise Refused("its parameters are not constants", "export the model in inference mode")
    site.affine = folded
    x = site.leaf(0)
    if len(x.shape) not in (3, 4, 5):
        raise Refused(f"its input has {len(x.shape)} axes", IMAGE)
    affine_conv(site, x)


def _channels(site: Site) -> Violation:
    shape = site.out_shape()
    return in_range(shape[1] if len(shape) == 4 else 1, 0, site.limit("binary_channels_max"))


CHANNELS = Limit("channels must be at most {binary_channels_max}", _channels, "split the channels")
_LIMITS = (CHANNELS,)
_DTYPES = "int8, int16 (both operands quantized) → int8, int16"

RULES = (
    OpRule(
        "Add",
        "VAE",
        _DTYPES,
        _linear(1.0, "add"),
        _LIMITS,
        note="broadcasts; fused behind a convolution where it can",
    ),
    OpRule("Sub", "VAE", _DTYPES, _linear(-1.0, "add"), _LIMITS, note="broadcasts"),
    OpRule("Sum", "VAE", _DTYPES, _linear(1.0, "add"), _LIMITS, note="of any count; broadcasts"),
    OpRule("Mean", "VAE", _DTYPES, _linear(1.0, "add", 0.5), _LIMITS, note="of any count; broadcasts"),
    OpRule("Mul", "VAE", _DTYPES, _lower_mul, _LIMITS, note="broadcasts"),
    OpRule("Max", "VAE", _DTYPES, _linear(1.0, "max"), _LIMITS, note="of any count; broadcasts"),
    OpRule("Min", "VAE", _DTYPES, _linear(1.0, "min"), _LIMITS, note="of any count; broadcasts"),
    OpRule("PRelu", "VAE", _DTYPES, _lower_prelu, _LIMITS),
    OpRule(
        "Div",
        "VAE",
        "int8, int16 ÷ int8",
        _lower_div,
        _LIMITS,
        note="table of reciprocals and a product, ±0.8 steps; by constants per channel a factor",
    ),
    OpRule(
        "BatchNormalization",
        "TAE",
        "int8, int16",
        _lower_batch_norm,
        note="folded into a convolution where it can",
    ),
)


@form(Binary, "a b table?", geometry="shape a_strides b_strides")
def _binary(b: Builder, node: Node) -> None:
    shape = b.shape(node.outputs[0])
    operands = tuple(broadcast_strides(b.shape(operand(node, name)), shape) for name in ("a", "b"))
    collapsed, (a_strides, b_strides) = collapse(shape, operands, least=1)
    b.push(node, shape=collapsed, a_strides=a_strides, b_strides=b_strides)
