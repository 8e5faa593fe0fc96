"""What convolutions and matrix products share: weights, accumulator bounds, bias and requantization per channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.compiler.ir import Array, Quant
from openbpu.compiler.ops.site import Float64, Leaf, Refused, Site

INT32_MAX = 2**31 - 1
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Weights:
    """Constant weights: `codes` with the zero point taken out (int8 or int16), `scale` float64, [channels] or [1]."""

    codes: Array
    scale: Float64


def read_weights(site: Site, index: int, channel_axis: int, *, groups_axis: bool = False) -> Weights:
    """Read the constant quantized weights at input `index`, per tensor or per `channel_axis`.

    With `groups_axis` (ConvTranspose) the scale of an axis of Cout/G is repeated for every group.
    """
    name = site.node.inputs[index]
    leaf = site.leaf_or_none(name)
    if leaf is None:
        raise Refused(
            f"its weight '{name}' is not quantized", "quantize the weight to int8, per output channel"
        )
    if leaf.const is None:
        raise Refused(
            f"its weight '{name}' is computed, not a constant", "use MatMul for two computed operands"
        )
    if not leaf.scaling.per_tensor and leaf.scaling.axis != channel_axis:
        raise Refused(
            f"its weight is quantized along axis {leaf.scaling.axis}, not the output channels (axis {channel_axis})",
            "quantize the weight per output channel or per tensor",
        )
    shape = [1] * leaf.const.ndim
    shape[channel_axis] = leaf.scaling.scale.size
    codes = _narrow(leaf.const.astype(np.int64) - leaf.scaling.zero.reshape(shape))
    scale = leaf.scaling.scale.astype(np.float64)
    if groups_axis and scale.size > 1:
        scale = np.tile(scale, int(site.node.attrs.get("group", 1)))
    return Weights(codes, scale)


def _narrow(codes: Int64) -> Array:
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    if low >= -128 and high <= 127:
        return codes.astype(np.int8)
    if low >= -32768 and high <= 32767:
        return codes.astype(np.int16)
    raise Refused(
        f"its weight without the zero point spans {low}..{high} (int16 at most)", "quantize symmetrically"
    )


def check_pair(site: Site, a: str, b: str, pairs: tuple[tuple[DType, DType], ...]) -> None:
    """Refuse an input × weight pair that the march's matrix does not have, and print the matrix."""
    if (DType(a), DType(b)) in pairs:
        return
    matrix = ", ".join(f"{x.value}×{w.value}" for x, w in pairs)
    fix = "make one of the two int8"
    if a == b == "int16":
        fix += ", or write the product as broadcast Mul and ReduceSum, which take int16 × int16"
    raise Refused(f"input × weight must be one of {matrix} on {site.march.name}, not {a}×{b}", fix)


@dataclass(frozen=True, slots=True)
class Requantization:
    """Per-channel parameters of a convolution: params int32 [C,4], rmult int64 [C] or None, whether acc may overflow."""

    params: npt.NDArray[np.int32]
    rmult: Int64 | None
    wide: bool


def requantization(site: Site, x: Leaf, weights: Weights, ohwi: Array, bias: Array | None) -> Requantization:
    """Work out bias, multiplier, offset and shift of every output channel (formula: program.Conv).

    The bias is exact: its whole accumulator steps go to the bias, the rest to the offset of the fixed point.
    """
    out = site.out_quant()
    channels = ohwi.shape[0]
    flat = ohwi.reshape(channels, -1).astype(np.int64)
    gain, beta = site.affine if site.affine is not None else (np.ones(channels), np.zeros(channels))
    acc_scale = x.s * np.broadcast_to(weights.scale, (channels,))
    factor = gain * acc_scale / out.s
    real = gain * (np.zeros(channels) if bias is None else np.reshape(bias, -1)) + beta
    reach = np.abs(flat).sum(axis=1) * _code_reach(x)
    fold = -x.z * flat.sum(axis=1)
    whole, rest = _split_bias(real, gain * acc_scale, reach)
    residual = (site.residual.s / out.s,) if site.residual is not None else ()
    bounds = (reach + np.abs(fold + whole), *(float(site.residual.reach) for _ in residual if site.residual))
    fixed = numerics.fixed_point_sum((factor, *residual), bounds, rest / out.s, offset_bits=32)
    total = fold + whole
    if np.abs(total).max(initial=0) > INT32_MAX:
        raise Refused("its bias and zero point do not fit the int32 accumulator", "quantize symmetrically")
    params = np.stack([total, fixed.multipliers[0], fixed.offset, fixed.shift], axis=1).astype(np.int32)
    wide = bool((reach + np.abs(total) > INT32_MAX).any())
    return Requantization(params, fixed.multipliers[1] if residual else None, wide)


def _code_reach(x: Leaf) -> int:
    return -int(np.iinfo(x.dtype).min)


def _split_bias(real: Float64, unit: Float64, reach: Int64) -> tuple[Int64, Float64]:
    """Split real biases into whole accumulator steps of `unit` and a remainder in reals.

    Channels whose unit is too small for the bias to fit int32 (a BatchNorm gain near 0) keep all of it as remainder.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(unit == 0, np.inf, real / unit)
    fits = np.abs(steps) + reach < INT32_MAX
    whole = np.where(fits, np.rint(np.where(fits, steps, 0)), 0).astype(np.int64)
    return whole, np.where(fits, real - whole * unit, real)


def emit_conv(
    site: Site,
    x: Leaf,
    x_name: str,
    weights: Weights,
    ohwi: Array,
    bias: Array | None,
    y_shape: tuple[int, ...],
    residual: str | None,
    finish: Callable[[str], None],
    **geometry: Any,
) -> None:
    """Emit a Conv from `x_name` (NHWC) to a new NHWC value and let `finish` bring that to the site's target.

    Without a Quantize behind the operator the int32 accumulator is the result, and a Dequantize per channel makes the
    float target.
    """
    check_pair(site, x.dtype, str(ohwi.dtype), site.march.conv_pairs)
    weight = site.rw.constant(f"{site.node.inputs[1]}/ohwi", ohwi)
    if site.out is None:
        _emit_raw(site, x, x_name, weights, ohwi, bias, y_shape, finish, weight, geometry)
        return
    req = requantization(site, x, weights, ohwi, bias)
    params = site.rw.constant(f"{site.target}/params", req.params)
    rmult = site.rw.constant(f"{site.target}/rmult", req.rmult) if req.rmult is not None else ""
    low, high = site.bounds()
    y = site.rw.value(f"{site.target}/nhwc", y_shape, site.out_dtype, site.quant())
    site.rw.set_quant(site.target, site.quant())
    site.rw.add(
        "Conv",
        (x_name, residual or "", weight, params, rmult, ""),
        (y,),
        site.origins,
        site.node.name,
        pad_value=x.z,
        r_zero=site.residual.z if site.residual else 0,
        zero=site.out_quant().z,
        lo=low,
        hi=high,
        raw=False,
        wide=req.wide,
        **geometry,
    )
    finish(y)


def _emit_raw(
    site: Site,
    x: Leaf,
    x_name: str,
    weights: Weights,
    ohwi: Array,
    bias: Array | None,
    y_shape: tuple[int, ...],
    finish: Callable[[str], None],
    weight: str,
    geometry: dict[str, Any],
) -> None:
    if site.residual is not None or site.affine is not None or np.isfinite(site.clamp).any():
        raise Refused("its output is not quantized, so nothing can be fused behind it", "quantize the output")
    channels = ohwi.shape[0]
    flat = ohwi.reshape(channels, -1).astype(np.int64)
    unit = x.s * np.broadcast_to(weights.scale, (channels,))
    whole = np.zeros(channels) if bias is None else np.rint(np.reshape(bias, -1) / unit)
    total = whole - x.z * flat.sum(axis=1)
    if np.abs(total).max(initial=0) > INT32_MAX:
        raise Refused("its bias does not fit the int32 accumulator", "check the bias and the scales")
    reach = np.abs(flat).sum(axis=1) * _code_reach(x) + np.abs(total)
    params = np.zeros((channels, 4), np.int32)
    params[:, 0] = total
    y = site.rw.value(f"{site.target}/nhwc", y_shape, "int32")
    site.rw.add(
        "Conv",
        (x_name, "", weight, site.rw.constant(f"{site.target}/params", params), "", ""),
        (y,),
        site.origins,
        site.node.name,
        pad_value=x.z,
        raw=True,
        wide=bool((reach > INT32_MAX).any()),
        **geometry,
    )
    scales = unit.astype(np.float32)
    emit_dequantized(site, y, scales if np.unique(scales).size > 1 else scales[:1], finish)


def emit_dequantized(
    site: Site, codes: str, scales: npt.NDArray[np.float32], finish: Callable[[str], None]
) -> None:
    """Make the site's float target from int32 codes: channels are the last axis of `codes`, `finish` moves them.

    The layout change happens on codes, the Dequantize comes last, so that it can be taken off the model's end.
    """
    target = site.target
    shape = site.rw.values[target].shape or ()
    axis = len(shape) - 1
    moved = site.rw.value(f"{target}/acc", shape, "int32")
    site.target = moved
    finish(codes)
    site.target = target
    last = site.rw.nodes[-1]
    if last.op == "Transpose" and last.outputs == (moved,):
        axis = list(last.attrs["perm"]).index(len(last.attrs["perm"]) - 1)
    quant = Quant(tuple(float(s) for s in scales), 0, axis if scales.size > 1 else -1)
    site.rw.set_quant(moved, quant)
    emit_dequantize(site, moved, scales, axis, target)


def emit_dequantize(site: Site, codes: str, scales: npt.NDArray[np.float32], axis: int, target: str) -> None:
    """Emit the Dequantize from codes to a float value: on the BPU where the march has a unit for it, else as ONNX."""
    scale = scales if scales.size > 1 else scales.reshape(())
    name = site.rw.constant(f"{target}/scale", scale)
    site.rw.add("DequantizeLinear", (codes, name), (target,), domain="", axis=axis)
