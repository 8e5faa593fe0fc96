"""What convolutions and matrix products share: weights, accumulator bounds, bias, requantization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch.arrays import Float64, Int64
from openbpu.arch.dtypes import DType
from openbpu.arch.program import Conv
from openbpu.arch.shapes import along
from openbpu.compiler.ir import Array, Node, Quant
from openbpu.compiler.ir.dialect import Builder, form, operand
from openbpu.compiler.ir.qdq import is_dequantize
from openbpu.compiler.ops.mechanical import BROADCAST
from openbpu.compiler.ops.pieces import joined
from openbpu.compiler.ops.site import Leaf, Refused, Site, scales_refused

INT32_MAX = 2**31 - 1
Finish = Callable[[str, str], int]
"""Brings an NHWC value to the layout of a target (both by name); returns the channel axis of the target."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Constant weights: `codes` without zero point (int8 or int16), `scale` float64, [channels] or [1]."""

    codes: Array
    scale: Float64


def read_weights(site: Site, index: int, channel_axis: int, *, groups_axis: bool = False) -> Weights:
    """Read the constant quantized weights at input `index`, per tensor or per `channel_axis`.

    With `groups_axis` (ConvTranspose) the scale of an axis of Cout/G is repeated for every group.
    """
    name = site.node.inputs[index]
    leaf = site.leaf_or_none(name)
    maker = site.producers.get(name)
    if leaf is None and maker is not None and is_dequantize(maker):
        raise scales_refused(site.graph, maker, f"its weight '{name}'")
    if leaf is None:
        raise Refused(
            f"its weight '{name}' is not quantized", "quantize the weight to int8, per output channel"
        )
    if leaf.const is None:
        fix = "use MatMul for two computed operands"
        if site.node.op in {"Conv", "ConvTranspose"}:
            fix = "leave it to the CPU, or unfold its input: MatMul takes two computed operands"
        raise Refused(f"its weight '{name}' is computed, not a constant", fix)
    if not leaf.scaling.per_tensor and leaf.scaling.axis != channel_axis:
        raise Refused(
            f"its weight is quantized along axis {leaf.scaling.axis}, not the output channels "
            f"(axis {channel_axis})",
            "quantize the weight per output channel or per tensor",
        )
    shape = along(channel_axis, leaf.const.ndim)
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
        fix += f", or {BROADCAST}"
    raise Refused(f"input × weight must be one of {matrix} on {site.march.name}, not {a}×{b}", fix)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Geometry fields of a Conv (see `program.Conv`), (h, w) each; pads are top, left, bottom, right."""

    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    upsample: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution to be emitted, channels last.

    `x` is the input tensor and `source` its NHWC value; `weight` is [O, KH, KW, I] without zero point and
    `scale` its float64 scale, [O] or [1]; `bias` holds reals, [O] or [1]; `y_shape` is the NHWC shape of the
    result; `residual` is the NHWC value of the operand of a fused Add ("" for none), which is multiplied by
    `gain`. Of more output channels than `most` (0: any number) pieces are made and concatenated: they do not
    depend on each other.
    """

    x: Leaf
    source: str
    weight: Array
    scale: Float64
    bias: Array | None
    y_shape: tuple[int, ...]
    geometry: Geometry = Geometry()
    residual: str = ""
    gain: float = 1.0
    most: int = 0

    @property
    def channels(self) -> int:
        """Output channels."""
        return int(self.weight.shape[0])

    @property
    def unit(self) -> Float64:
        """What one step of the accumulator stands for, [channels]."""
        return self.x.s * np.broadcast_to(self.scale, (self.channels,))

    def sums(self) -> tuple[Int64, Int64]:
        """Return Σw and the bound Σ|w|·max|code| of the accumulator without bias, [channels] each."""
        flat = self.weight.reshape(self.channels, -1).astype(np.int64)
        code_reach = -int(np.iinfo(self.x.dtype).min)
        return flat.sum(axis=1), np.abs(flat).sum(axis=1) * code_reach


@dataclass(frozen=True, slots=True)
class Requantization:
    """Parameters of a Conv: params int32 [C,4|5], rmult int64 [C] or None, `wide` when acc may overflow."""

    params: npt.NDArray[np.int32]
    rmult: Int64 | None
    wide: bool


def require_finite(*factors: Array | None) -> None:
    """Refuse factors or biases that no integer stands for: the CPU carries infinity and NaN on."""
    if not all(factor is None or np.isfinite(factor).all() for factor in factors):
        raise Refused("its bias or its factors are not all finite", "check the export of the model")


def requantization(site: Site, conv: Convolution) -> Requantization:
    """Work out bias, multiplier, offset and shift of every output channel (formula: program.Conv).

    The bias is exact: its whole accumulator steps go to the bias, the rest to the offset of the fixed point.
    Refuses a bias that does not fit the accumulator.
    """
    out, channels, residual = site.out_quant(), conv.channels, site.residual
    gain, beta = site.affine if site.affine is not None else (np.ones(channels), np.zeros(channels))
    require_finite(gain, beta, conv.bias)
    real = gain * (np.zeros(channels) if conv.bias is None else np.reshape(conv.bias, -1)) + beta
    weight_sum, reach = conv.sums()
    added = None if residual is None else (conv.gain * residual.s, float(residual.reach))
    total, fixed = numerics.product_factors(
        gain * conv.unit, real, reach, weight_sum * conv.x.z, out.s, added
    )
    if np.abs(total).max(initial=0) > INT32_MAX:
        raise Refused("its bias and zero point do not fit the int32 accumulator", "quantize symmetrically")
    params = numerics.packed_params(total, fixed)
    wide = bool((reach + np.abs(total) > INT32_MAX).any())
    return Requantization(params, None if residual is None else fixed.multipliers[1], wide)


def emit_conv(site: Site, conv: Convolution, finish: Finish) -> None:
    """Emit a Conv to a new NHWC value and let `finish` bring that to the site's target.

    Without a Quantize behind the operator the int32 accumulator is the result, and a Dequantize per channel
    makes the float target. Refuses dtype pairs that the march does not have.
    """
    check_pair(site, conv.x.dtype, str(conv.weight.dtype), site.march.conv_pairs)
    weight = site.rw.constant(f"{site.node.inputs[1]}/ohwi", conv.weight)
    if site.out is None:
        _emit_raw(site, conv, weight, finish)
        return
    finish(_emit_codes(site, conv, weight), site.target)


def emit_rows(site: Site, rows: Sequence[Convolution], finish: Finish) -> None:
    """Emit convolutions of one weight to NHWC values that make the site's target one below the other."""
    check_pair(site, rows[0].x.dtype, str(rows[0].weight.dtype), site.march.conv_pairs)
    weight = site.rw.constant(f"{site.node.inputs[1]}/ohwi", rows[0].weight)
    finish(joined(site, [_emit_codes(site, conv, weight) for conv in rows], 2, "rows"), site.target)


def _emit_codes(site: Site, conv: Convolution, weight: str) -> str:
    """Emit a Conv whose result is requantized; returns it."""
    req = requantization(site, conv)
    params = site.rw.constant(f"{site.target}/params", req.params)
    rmult = site.rw.constant(f"{site.target}/rmult", req.rmult) if req.rmult is not None else ""
    low, high = site.bounds()
    y = site.rw.value(f"{site.target}/{_stem(conv.source)}", conv.y_shape, site.out_dtype, site.quant())
    site.rw.set_quant(site.target, site.quant())
    _emit_pieces(
        site,
        y,
        conv,
        x=conv.source,
        residual=conv.residual,
        weight=weight,
        params=params,
        rmult=rmult,
        pad_value=conv.x.z,
        r_zero=site.residual.z if site.residual else 0,
        zero=site.out_quant().z,
        lo=low,
        hi=high,
        raw=False,
        wide=req.wide,
        **asdict(conv.geometry),
    )
    return y


def _emit_raw(site: Site, conv: Convolution, weight: str, finish: Finish) -> None:
    """Emit a Conv whose result is the int32 accumulator; the broken step of its bias is added behind."""
    if site.residual is not None or site.affine is not None or np.isfinite(site.clamp).any():
        raise Refused("its output is not quantized, so nothing can be fused behind it", "quantize the output")
    require_finite(conv.bias)
    weight_sum, reach = conv.sums()
    bias = np.zeros(conv.channels) if conv.bias is None else np.reshape(conv.bias, -1)
    total, offsets = numerics.raw_bias(conv.unit, bias, conv.x.z * weight_sum)
    if np.abs(total).max(initial=0) > INT32_MAX:
        raise Refused("its zero point does not fit the int32 accumulator", "quantize symmetrically")
    params = np.zeros((conv.channels, 4), np.int32)
    params[:, 0] = total
    y = site.rw.value(f"{site.target}/{_stem(conv.source)}", conv.y_shape, "int32")
    _emit_pieces(
        site,
        y,
        conv,
        x=conv.source,
        weight=weight,
        params=site.rw.constant(f"{site.target}/params", params),
        pad_value=conv.x.z,
        raw=True,
        wide=bool((reach + np.abs(total) > INT32_MAX).any()),
        **asdict(conv.geometry),
    )
    scales = conv.unit.astype(np.float32)
    single = np.unique(scales).size == np.unique(offsets).size == 1
    few = slice(0, 1) if single else slice(None)
    emit_dequantized(site, y, scales[few], finish, offsets[few])


def _emit_pieces(site: Site, y: str, conv: Convolution, **parts: Any) -> None:
    """Emit the Conv that makes `y`, or one per piece of its output channels and a Concat that copies them."""
    if not 0 < conv.most < conv.channels:
        site.rw.bpu("Conv", y, site.origins, site.node.name, **parts)
        return
    value, made = site.rw.values[y], list[str]()
    for low in range(0, conv.channels, conv.most):
        high = min(low + conv.most, conv.channels)
        own = {
            k: _rows_of(site, name, low, high)
            for k in ("weight", "params", "rmult")
            if (name := parts.get(k))
        }
        if conv.residual:
            own["residual"] = _channels_of(site, conv.residual, low, high)
        made.append(site.rw.value(f"{y}/{low}", (*conv.y_shape[:3], high - low), value.dtype, value.quant))
        site.rw.bpu("Conv", made[-1], site.origins, site.node.name, **{**parts, **own})
    zeros = (0,) * len(made)
    copies: dict[str, Any] = {"x_zeros": zeros, "mults": zeros, "shifts": zeros, "zero": 0, "lo": 0, "hi": 0}
    site.rw.bpu("Concat", y, site.origins, xs=made, axis=3, **copies)


def _rows_of(site: Site, name: str, low: int, high: int) -> str:
    data = site.rw.values[name].const
    if data is None:
        raise ValueError(f"'{name}' is not a constant")
    return site.rw.constant(f"{name}/{low}", data[low:high])


def _channels_of(site: Site, nhwc: str, low: int, high: int) -> str:
    value = site.rw.values[nhwc]
    shape = (*(value.shape or ())[:3], high - low)
    cut = site.rw.value(f"{nhwc}/{low}", shape, value.dtype, value.quant)
    site.rw.bpu("Slice", cut, site.origins, x=nhwc, starts=(0, 0, 0, low), steps=(1, 1, 1, 1))
    return cut


def _stem(x_name: str) -> str:
    """Last part of the name of a result that has the layout of `x_name`: "nhwc" or "rows"."""
    return x_name.rpartition("/")[2].partition(":")[0]


def emit_dequantized(
    site: Site,
    codes: str,
    scales: npt.NDArray[np.float32],
    finish: Finish,
    offsets: npt.NDArray[np.float32] | None = None,
) -> None:
    """Make the site's float target from int32 codes whose last axis is the channels.

    `finish` changes the layout while the values are codes; the Dequantize comes last, so that it can be taken
    off the model's end.
    """
    moved = site.rw.value(f"{site.target}/acc", site.rw.values[site.target].shape or (), "int32")
    axis = finish(codes, moved)
    site.rw.set_quant(moved, Quant(tuple(float(s) for s in scales), 0, axis if scales.size > 1 else -1))
    scale = site.rw.constant(f"{site.target}/scale", scales if scales.size > 1 else scales.reshape(()))
    inputs: tuple[str, ...] = (moved, scale)
    if offsets is not None and offsets.any():
        inputs = (moved, scale, "", site.rw.constant(f"{site.target}/offset", offsets))
    site.rw.add("DequantizeLinear", inputs, (site.target,), axis=axis)


@form(Conv, "x residual? weight params rmult? table?", geometry="x_shape y_shape")
def _conv(b: Builder, node: Node) -> None:
    b.push(node, x_shape=b.shape(operand(node, "x")), y_shape=b.shape(node.outputs[0]))
