"""Conv and ConvTranspose, 1-D to 3-D: weights to OHWI, zero points into bias and padding."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from openbpu.arch.arrays import Float64
from openbpu.compiler.ir import Array
from openbpu.compiler.ops.layout import channels_last, from_nhwc, require_images
from openbpu.compiler.ops.mechanical import APART, BATCH, OUTPUTS, PAIR, PHASES, STRIDE, ZEROS
from openbpu.compiler.ops.pieces import viewed
from openbpu.compiler.ops.rule import Limit, OpRule, Violation, all_in_range, in_range
from openbpu.compiler.ops.site import Refused, Site
from openbpu.compiler.ops.taps import Plan, laid_out, planned
from openbpu.compiler.ops.tensor_engine import Convolution, Geometry, emit_conv, read_weights
from openbpu.compiler.ops.windows import Span, flat, spans


def kernel_of(site: Site) -> tuple[int, ...]:
    """Spatial shape of the weight."""
    return site.shape(1)[2:]


def plan_of(site: Site) -> Plan:
    """How the site's convolution becomes one of images."""
    return planned(site, spans(site, kernel_of(site)), site.shape(1)[1], _groups(site))


def _lower_conv(site: Site) -> None:
    plan = plan_of(site)
    _check_window(site, plan)
    weights = read_weights(site, 1, channel_axis=0)
    _emit(site, weights.codes, weights.scale, plan)


def _check_window(site: Site, plan: Plan) -> None:
    """Refuse a dilated kernel whose window does not fit on chip: one output needs all of it at once."""
    sides = [min((s.kernel - 1) * s.dilation + 1, s.size) for s in (plan.rows, plan.columns)]
    size = sides[0] * sides[1] * plan.channels * np.dtype(site.leaf(0).dtype).itemsize
    room = site.march.chip_bytes * 3 // 4  # the rest is for weights and results
    if size > room:
        raise Refused(
            f"the input under one output must fit {room} bytes on chip, not {size}",
            "use a smaller dilation, a smaller kernel or fewer channels",
        )


def _groups(site: Site) -> int:
    return int(site.node.attrs.get("group", 1))


def _bias(site: Site) -> Array | None:
    bias = site.constant(2)
    if bias is None and site.has(2):
        raise Refused("its bias is not a constant", APART)
    return bias


def _emit(site: Site, weight: Array, scale: Float64, plan: Plan) -> None:
    """Emit the convolution of input 0 by `weight` [O, I, *K] over the upsampled input."""
    require_images(site, plan.images)
    x, bias, groups = site.leaf(0), _bias(site), _groups(site)
    win, ohwi = flat((plan.rows, plan.columns)), plan.weight(weight)
    geometry = Geometry(win.kernel, win.strides, win.pads, win.dilations, plan.upsample, groups)
    y_shape = (*plan.result, ohwi.shape[0])
    source = laid_out(site, plan, channels_last(site, x.codes), groups, x.z)
    residual = ""
    if site.residual is not None:
        residual = viewed(site, channels_last(site, site.residual.codes), y_shape)
    conv = Convolution(x, source, ohwi, scale, bias, y_shape, geometry, residual)
    emit_conv(site, conv, lambda nhwc, target: from_nhwc(site, nhwc, target))


def _lower_conv_transpose(site: Site) -> None:
    """A convolution over the input upsampled by the strides, with the kernel turned round."""
    weights = read_weights(site, 1, channel_axis=1, groups_axis=True)
    groups, w = _groups(site), weights.codes
    cin, cog, *kernel = w.shape
    # [Cin, Cout/G, *K] → per group [Cout/G, Cin/G, *K], kernel turned round.
    grouped = np.flip(w, tuple(range(2, w.ndim))).reshape(groups, cin // groups, cog, *kernel)
    turned = np.swapaxes(grouped, 1, 2).reshape(groups * cog, cin // groups, *kernel)
    _emit(site, turned, weights.scale, plan_transposed(site))


def plan_transposed(site: Site) -> Plan:
    """How a ConvTranspose becomes a convolution of images over the upsampled input."""
    found = spans_transposed(site)
    strides = tuple(site.node.attrs.get("strides") or (1,) * len(found))
    groups = _groups(site)
    return planned(site, found, site.shape()[1] // groups, groups, strides)


def spans_transposed(site: Site) -> tuple[Span, ...]:
    """Spans of a ConvTranspose as a convolution over the upsampled input, pads dilation·(k − 1) − pad."""
    found = []
    for span, pad in zip(spans(site, kernel_of(site)), _pads_transposed(site), strict=True):
        size, reach = (span.size - 1) * span.stride + 1, (span.kernel - 1) * span.dilation
        before = reach - pad
        after = span.out + reach - before - size
        found.append(Span(size, span.out, span.kernel, 1, span.dilation, before, after))
    return tuple(found)


def _pads_transposed(site: Site) -> tuple[int, ...]:
    """The pads in front of a ConvTranspose's axes: auto_pad and output_shape spread what is cut off.

    What is odd of it goes to the front, with SAME_UPPER to the end.
    """
    attrs, kernel = site.node.attrs, kernel_of(site)
    rank = len(kernel)
    auto = attrs.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "", "VALID") and not attrs.get("output_shape"):
        return tuple(span.before for span in spans(site, kernel))
    strides = tuple(attrs.get("strides") or (1,) * rank)
    dilations = tuple(attrs.get("dilations") or (1,) * rank)
    extra = tuple(attrs.get("output_padding") or (0,) * rank)
    begin = []
    for i in range(rank):
        full = strides[i] * (site.shape()[2 + i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1
        total = max(full - site.out_shape()[2 + i], 0)
        begin.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
    return tuple(begin)


# --- limits ------------------------------------------------------------------------------------------------


def _sizes(site: Site) -> Violation:
    most, laid = site.limit("conv_size_max"), plan_of(site).channels * _groups(site)
    return all_in_range(site.shape()[1:], 1, most) or in_range(laid, 1, most)


def _outputs(site: Site) -> Violation:
    key = "conv_outputs_last_max" if site.is_output else "conv_outputs_max"
    return in_range(site.shape(1)[0], 1, site.limit(key))


def _taps(site: Site) -> Violation:
    plan = plan_of(site)
    taps = plan.rows.kernel * plan.columns.kernel * plan.channels
    return in_range(taps, 1, site.limit("conv_taps_max"))


def _spanned(site: Site) -> list[Span]:
    """The rows and columns that the images have, of a 1-D convolution the columns only."""
    plan = plan_of(site)
    return [plan.rows, plan.columns][-min(len(kernel_of(site)), 2) :]


def _strides(site: Site) -> Violation:
    return all_in_range((s.stride for s in _spanned(site)), 1, site.limit("conv_stride_max"))


def _added_stride(site: Site) -> Violation:
    strides = (s.stride for s in _spanned(site))
    return None if site.residual is None else all_in_range(strides, 1, site.limit("conv_stride_add_max"))


def _dilated_stride(site: Site) -> Violation:
    found = _spanned(site)
    if all(s.dilation == 1 for s in found):
        return None
    return all_in_range((s.stride for s in found), 1, site.limit("conv_stride_dilated_max"))


def _dilations(site: Site) -> Violation:
    return all_in_range((s.dilation for s in _spanned(site)), 1, site.limit("conv_dilation_max"))


def _dilated_evenly(site: Site) -> Violation:
    return _not_powers(s.dilation for s in _spanned(site))


def _not_powers(values: Iterable[int]) -> Violation:
    found = tuple(values)
    return "×".join(map(str, found)) if any(v & (v - 1) for v in found) else None


def _int16_depthwise(site: Site) -> Violation:
    groups = _groups(site)
    if groups == 1 or groups != site.shape()[1] or site.leaf(0).dtype != "int16":
        return None
    limit, plan = site.limit("conv_int16_depthwise_even_stride_max"), plan_of(site)
    strides = tuple(s.stride for s in _spanned(site))
    held = plan.channels > 1 or all(s % 2 or s <= limit for s in strides)
    return None if held else "×".join(map(str, strides))


_PARTS = "split the input channels over several layers, quantize what each makes, and add"
CONV_LIMITS = (
    Limit("batch must be 1..{batch_max}", lambda s: in_range(s.shape()[0], 1, s.limit("batch_max")), BATCH),
    Limit(
        "C, H and W of the input must be 1..{conv_size_max}", _sizes, "split the input into smaller pieces"
    ),
    Limit(
        "input channels per group (times the depth of the kernel) must be 1..{conv_channels_max}",
        lambda s: in_range(plan_of(s).channels, 1, s.limit("conv_channels_max")),
        _PARTS,
    ),
    Limit(
        "output channels must be 1..{conv_outputs_max} (1..{conv_outputs_last_max} in a model's last layer)",
        _outputs,
        OUTPUTS,
    ),
    Limit("KD·KH·KW·C must be 1..{conv_taps_max}", _taps, _PARTS),
    Limit("strides must be 1..{conv_stride_max}", _strides, STRIDE),
    Limit(
        "with dilation above 1, strides must be 1..{conv_stride_dilated_max}",
        _dilated_stride,
        ZEROS,
    ),
    Limit(
        "with a fused Add, strides must be 1..{conv_stride_add_max}",
        _added_stride,
        f"{PAIR}between the two",
    ),
    Limit("dilations must be 1..{conv_dilation_max}", _dilations, ZEROS),
    Limit(
        "dilations must be powers of two",
        _dilated_evenly,
        ZEROS,
        when="conv_dilation_power_of_two",
    ),
    Limit(
        "even strides of an int16 depthwise convolution must be at most "
        "{conv_int16_depthwise_even_stride_max}",
        _int16_depthwise,
        STRIDE,
    ),
)

DECONV_LIMITS = (
    Limit(
        "input and output channels must be 1..{deconv_channels_max}",
        lambda s: all_in_range((s.shape()[1], s.out_shape()[1]), 1, s.limit("deconv_channels_max")),
        PHASES,
    ),
    Limit(
        "kernel sides must be {deconv_kernel_min}..{deconv_kernel_max}",
        lambda s: all_in_range(kernel_of(s), s.limit("deconv_kernel_min"), s.limit("deconv_kernel_max")),
        PHASES,
    ),
    Limit(
        "KH·KW must be at least {deconv_taps_min}",
        lambda s: in_range(int(np.prod(kernel_of(s))), s.limit("deconv_taps_min"), 1 << 30),
        PHASES,
    ),
    Limit(
        "strides must be {deconv_stride_min}..{deconv_stride_max}",
        lambda s: all_in_range(
            s.node.attrs.get("strides") or (1,), s.limit("deconv_stride_min"), s.limit("deconv_stride_max")
        ),
        PHASES,
    ),
    Limit(
        "strides must be powers of two",
        lambda s: _not_powers(s.node.attrs.get("strides") or (1,)),
        PHASES,
        when="deconv_stride_power_of_two",
    ),
    Limit(
        "dilations must be 1..{deconv_dilation_max}",
        lambda s: all_in_range(s.node.attrs.get("dilations") or (1,), 1, s.limit("deconv_dilation_max")),
        ZEROS,
    ),
)

_DTYPES = "int8 × int8, int8 × int16, int16 × int8 → int8, int16, int32"

RULES = (
    OpRule(
        "Conv",
        "TAE",
        _DTYPES,
        _lower_conv,
        CONV_LIMITS,
        fuses=True,
        raw=True,
        note="1-D, 2-D and 3-D; the depth of a kernel, and kernels wider than the march's, become channels",
    ),
    OpRule(
        "ConvTranspose",
        "TAE",
        _DTYPES,
        _lower_conv_transpose,
        DECONV_LIMITS,
        fuses=True,
        raw=True,
        note="1-D, 2-D and 3-D",
    ),
)
