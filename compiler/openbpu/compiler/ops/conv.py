"""Conv and ConvTranspose, 1-D and 2-D: weights to OHWI, zero points into bias and padding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from openbpu.arch.arrays import Float64
from openbpu.arch.shapes import same_pads
from openbpu.compiler.ir import Array
from openbpu.compiler.ops.layout import from_nhwc, to_nhwc
from openbpu.compiler.ops.rule import Limit, OpRule, Violation, all_in_range, in_range
from openbpu.compiler.ops.site import Refused, Site
from openbpu.compiler.ops.tensor_engine import Convolution, Geometry, emit_conv, read_weights


@dataclass(frozen=True, slots=True)
class Window:
    """Geometry of a convolution or pool as 2-D: (h, w) pairs; pads are top, left, bottom, right."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]


def window(site: Site, kernel: tuple[int, ...]) -> Window:
    """Read kernel, strides, dilations and pads (auto_pad resolved); a 1-D window gets a height of 1."""
    rank = len(kernel)
    if rank not in (1, 2):
        raise Refused(f"only 1-D and 2-D windows run on the BPU, not {rank}-D", "reshape to two spatial axes")
    attrs = site.node.attrs
    strides = tuple(attrs.get("strides") or (1,) * rank)
    dilations = tuple(attrs.get("dilations") or (1,) * rank)
    pads = _pads(site, kernel, strides, dilations)
    if rank == 1:
        return Window((1, kernel[0]), (1, strides[0]), (1, dilations[0]), (0, pads[0], 0, pads[1]))
    top, left, bottom, right = pads
    spans = (strides[0], strides[1]), (dilations[0], dilations[1])
    return Window((kernel[0], kernel[1]), *spans, (top, left, bottom, right))


def _pads(
    site: Site, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> tuple[int, ...]:
    auto = site.node.attrs.get("auto_pad", "NOTSET")
    rank = len(kernel)
    if auto in ("NOTSET", ""):
        return tuple(site.node.attrs.get("pads") or (0,) * (2 * rank))
    if auto == "VALID":
        return (0,) * (2 * rank)
    upper = auto != "SAME_LOWER"
    return same_pads(site.shape()[2:], site.out_shape()[2:], kernel, strides, dilations, upper=upper)


def kernel_of(site: Site) -> tuple[int, ...]:
    """Spatial shape of the weight."""
    return site.shape(1)[2:]


def _weight_ohwi(w: Array) -> Array:
    """Weight [O, I, *K] → [O, KH, KW, I]."""
    two_d = w if w.ndim == 4 else w[:, :, None, :]
    return np.ascontiguousarray(two_d.transpose(0, 2, 3, 1))


def _lower_conv(site: Site) -> None:
    win = window(site, kernel_of(site))
    _check_window(site, win)
    weights = read_weights(site, 1, channel_axis=0)
    geometry = Geometry(win.kernel, win.strides, win.pads, win.dilations, groups=_groups(site))
    _emit(site, _weight_ohwi(weights.codes), weights.scale, geometry)


def _check_window(site: Site, win: Window) -> None:
    """Refuse a dilated kernel whose window does not fit on chip: one output needs all of it at once."""
    image = (1, *site.shape()[2:])[-2:]
    sides = [min((k - 1) * d + 1, i) for k, d, i in zip(win.kernel, win.dilations, image, strict=True)]
    size = sides[0] * sides[1] * site.shape(1)[1] * np.dtype(site.leaf(0).dtype).itemsize
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
        raise Refused("its bias is not a constant", "leave it out, and add it in an Add of its own")
    return bias


def _emit(site: Site, weight: Array, scale: Float64, geometry: Geometry) -> None:
    """Emit the convolution of input 0 by `weight` [O, KH, KW, I]."""
    x, bias = site.leaf(0), _bias(site)
    n, *spatial = site.out_shape()[:1] + site.out_shape()[2:]
    oh, ow = (1, spatial[0]) if len(spatial) == 1 else spatial
    source = to_nhwc(site, x.codes)
    residual = to_nhwc(site, site.residual.codes) if site.residual is not None else ""
    conv = Convolution(x, source, weight, scale, bias, (n, oh, ow, weight.shape[0]), geometry, residual)
    emit_conv(site, conv, lambda nhwc, target: from_nhwc(site, nhwc, target))


def _lower_conv_transpose(site: Site) -> None:
    """A convolution over the input upsampled by the strides, with the kernel turned round."""
    win = window_transposed(site)
    weights = read_weights(site, 1, channel_axis=1, groups_axis=True)
    groups = _groups(site)
    w = weights.codes if weights.codes.ndim == 4 else weights.codes[:, :, None, :]
    cin, cog = w.shape[:2]
    # [Cin, Cout/G, KH, KW] → per group [Cout/G, KH, KW, Cin/G], kernel turned round.
    grouped = w.reshape(groups, cin // groups, cog, *w.shape[2:]).transpose(0, 2, 3, 4, 1)[:, :, ::-1, ::-1]
    ohwi = np.ascontiguousarray(grouped.reshape(groups * cog, *w.shape[2:], cin // groups))
    _emit(
        site, ohwi, weights.scale, Geometry(win.kernel, (1, 1), win.pads, win.dilations, win.strides, groups)
    )


def window_transposed(site: Site) -> Window:
    """Geometry of a ConvTranspose as a convolution over the upsampled input, pads dilation·(k − 1) − pad."""
    win = window_plain(site, kernel_of(site))
    insides, outsides = ((1, *shape[2:])[-2:] for shape in (site.shape(), site.out_shape()))
    before, after = [], []
    for k, u, d, pad, inside, outside in zip(
        win.kernel, win.strides, win.dilations, win.pads[:2], insides, outsides, strict=True
    ):
        before.append((k - 1) * d - pad)
        after.append(outside + (k - 1) * d - before[-1] - ((inside - 1) * u + 1))
    return Window(win.kernel, win.strides, win.dilations, (before[0], before[1], after[0], after[1]))


def window_plain(site: Site, kernel: tuple[int, ...]) -> Window:
    """As `window`, with the pads of a ConvTranspose (auto_pad and output_shape spread what is cut off).

    What is odd of it goes to the front, with SAME_UPPER to the end.
    """
    attrs = site.node.attrs
    rank = len(kernel)
    auto = attrs.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "", "VALID") and not attrs.get("output_shape"):
        return window(site, kernel)
    strides = tuple(attrs.get("strides") or (1,) * rank)
    dilations = tuple(attrs.get("dilations") or (1,) * rank)
    extra = tuple(attrs.get("output_padding") or (0,) * rank)
    begin = []
    for i in range(rank):
        full = strides[i] * (site.shape()[2 + i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1
        total = max(full - site.out_shape()[2 + i], 0)
        begin.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
    if rank == 1:
        return Window((1, kernel[0]), (1, strides[0]), (1, dilations[0]), (0, begin[0], 0, 0))
    return Window(
        (kernel[0], kernel[1]),
        (strides[0], strides[1]),
        (dilations[0], dilations[1]),
        (begin[0], begin[1], 0, 0),
    )


# --- limits ------------------------------------------------------------------------------------------------


def _sizes(site: Site) -> Violation:
    return all_in_range(site.shape()[1:], 1, site.limit("conv_size_max"))


def _kernel(site: Site) -> Violation:
    return all_in_range(kernel_of(site), 1, site.limit("conv_kernel_max"))


def _outputs(site: Site) -> Violation:
    key = "conv_outputs_last_max" if site.is_output else "conv_outputs_max"
    return in_range(site.shape(1)[0], 1, site.limit(key))


def _taps(site: Site) -> Violation:
    return in_range(int(np.prod(site.shape(1)[1:])), 1, site.limit("conv_taps_max"))


def _strides(site: Site) -> Violation:
    strides = tuple(site.node.attrs.get("strides") or (1,))
    return all_in_range(strides, 1, site.limit("conv_stride_max"))


def _added_stride(site: Site) -> Violation:
    strides = tuple(site.node.attrs.get("strides") or (1,))
    return None if site.residual is None else all_in_range(strides, 1, site.limit("conv_stride_add_max"))


def _dilated_stride(site: Site) -> Violation:
    strides = tuple(site.node.attrs.get("strides") or (1,))
    dilated = max(site.node.attrs.get("dilations") or (1,)) > 1
    return all_in_range(strides, 1, site.limit("conv_stride_dilated_max")) if dilated else None


def _dilations(site: Site) -> Violation:
    dilations = tuple(site.node.attrs.get("dilations") or (1,))
    return all_in_range(dilations, 1, site.limit("conv_dilation_max"))


def _powers_of_two(key: str) -> Callable[[Site], Violation]:
    def check(site: Site) -> Violation:
        values = tuple(site.node.attrs.get(key) or (1,))
        return "×".join(map(str, values)) if any(v & (v - 1) for v in values) else None

    return check


def _int16_depthwise(site: Site) -> Violation:
    groups = int(site.node.attrs.get("group", 1))
    if groups == 1 or groups != site.shape()[1] or site.leaf(0).dtype != "int16":
        return None
    limit = site.limit("conv_int16_depthwise_even_stride_max")
    strides = tuple(site.node.attrs.get("strides") or (1,))
    return None if all(s % 2 or s <= limit for s in strides) else "×".join(map(str, strides))


CONV_LIMITS = (
    Limit(
        "batch must be 1..{batch_max}",
        lambda s: in_range(s.shape()[0], 1, s.limit("batch_max")),
        "run smaller batches",
    ),
    Limit(
        "C, H and W of the input must be 1..{conv_size_max}", _sizes, "split the input into smaller pieces"
    ),
    Limit("kernel sides must be 1..{conv_kernel_max}", _kernel, "replace the kernel by several smaller ones"),
    Limit(
        "input channels per group must be 1..{conv_channels_max}",
        lambda s: in_range(s.shape(1)[1], 1, s.limit("conv_channels_max")),
        "split the channels into groups",
    ),
    Limit(
        "output channels must be 1..{conv_outputs_max} (1..{conv_outputs_last_max} in a model's last layer)",
        _outputs,
        "split the output channels over two layers and concatenate",
    ),
    Limit("KH·KW·C must be 1..{conv_taps_max}", _taps, "use a smaller kernel or fewer channels"),
    Limit("strides must be 1..{conv_stride_max}", _strides, "stride less here and again in the next layer"),
    Limit(
        "with dilation above 1, strides must be 1..{conv_stride_dilated_max}",
        _dilated_stride,
        "give stride and dilation to two layers",
    ),
    Limit(
        "with a fused Add, strides must be 1..{conv_stride_add_max}",
        _added_stride,
        "put a Quantize/Dequantize pair between the two",
    ),
    Limit("dilations must be 1..{conv_dilation_max}", _dilations, "dilate less in several layers"),
    Limit(
        "dilations must be powers of two",
        _powers_of_two("dilations"),
        "use 1, 2, 4, …",
        when="conv_dilation_power_of_two",
    ),
    Limit(
        "even strides of an int16 depthwise convolution must be at most "
        "{conv_int16_depthwise_even_stride_max}",
        _int16_depthwise,
        "quantize its input to int8",
    ),
)

DECONV_LIMITS = (
    Limit(
        "input and output channels must be 1..{deconv_channels_max}",
        lambda s: all_in_range((s.shape()[1], s.out_shape()[1]), 1, s.limit("deconv_channels_max")),
        "split the channels into groups",
    ),
    Limit(
        "kernel sides must be {deconv_kernel_min}..{deconv_kernel_max}",
        lambda s: all_in_range(kernel_of(s), s.limit("deconv_kernel_min"), s.limit("deconv_kernel_max")),
        "use a Resize and a Conv",
    ),
    Limit(
        "KH·KW must be at least {deconv_taps_min}",
        lambda s: in_range(int(np.prod(kernel_of(s))), s.limit("deconv_taps_min"), 1 << 30),
        "use a Conv and a Resize",
    ),
    Limit(
        "strides must be {deconv_stride_min}..{deconv_stride_max}",
        lambda s: all_in_range(
            s.node.attrs.get("strides") or (1,), s.limit("deconv_stride_min"), s.limit("deconv_stride_max")
        ),
        "use a Resize and a Conv",
    ),
    Limit(
        "strides must be powers of two",
        _powers_of_two("strides"),
        "use 1, 2, 4, …",
        when="deconv_stride_power_of_two",
    ),
    Limit(
        "dilations must be 1..{deconv_dilation_max}",
        lambda s: all_in_range(s.node.attrs.get("dilations") or (1,), 1, s.limit("deconv_dilation_max")),
        "use a Resize and a dilated Conv",
    ),
)

_DTYPES = "int8 × int8, int8 × int16, int16 × int8 → int8, int16, int32"

RULES = (
    OpRule("Conv", "TAE", _DTYPES, _lower_conv, CONV_LIMITS, fuses=True, raw=True),
    OpRule("ConvTranspose", "TAE", _DTYPES, _lower_conv_transpose, DECONV_LIMITS, fuses=True, raw=True),
)
