"""Convolutions of any rank, by im2col and matmul in float64."""

from __future__ import annotations

import itertools

import numpy as np

from witness.kernel import Array, Call, kernel
from witness.ops.windows import Window, windows


def _columns(x: Array, axes: tuple[Window, ...]) -> Array:
    """Padded (C, *spatial) -> (C, kernel elements, output positions)."""
    outputs = tuple(w.outputs for w in axes)
    offsets = itertools.product(*(range(w.kernel) for w in axes))
    taps = [x[(slice(None), *(w.taps(o) for w, o in zip(axes, at, strict=True)))] for at in offsets]
    return np.stack(taps, axis=1).reshape(x.shape[0], len(taps), int(np.prod(outputs)))


def convolve(x: Array, w: Array, bias: Array | None, axes: tuple[Window, ...], group: int) -> Array:
    """(N, C, *spatial) with (M, C/group, *kernel) -> (N, M, *outputs)."""
    padding = [(0, 0), (0, 0), *((a.before, a.after) for a in axes)]
    padded = np.pad(x, padding)
    outputs = tuple(a.outputs for a in axes)
    filters = w.reshape(group, w.shape[0] // group, -1)
    result = np.empty((x.shape[0], w.shape[0], *outputs), dtype=np.result_type(x, w))
    for image, out in zip(padded, result, strict=True):
        columns = _columns(image, axes).reshape(group, filters.shape[2], -1)
        out[...] = np.matmul(filters, columns).reshape(out.shape)
    return result if bias is None else result + bias.reshape(1, -1, *([1] * len(axes)))


def conv(call: Call, x: Array, w: Array, bias: Array | None) -> Array:
    """A Conv with these operands and the attributes of the call."""
    axes = windows(call, x.shape[2:], w.shape[2:])
    return convolve(x, w, bias, axes, call.attr("group", 1))


@kernel("Conv")
def conv_float(call: Call) -> Array:
    """Conv as the specification has it."""
    return conv(call, call[0], call[1], call.get(2))


@kernel("ConvInteger")
def conv_integer(call: Call) -> Array:
    """Conv of the integers minus their zero points, to int32."""
    x, w = call[0].astype(np.float64), call[1].astype(np.float64)
    x_zero, w_zero = call.get(2), call.get(3)
    if x_zero is not None:
        x = x - x_zero
    if w_zero is not None:
        w = w - w_zero.reshape(-1, *([1] * (w.ndim - 1)))
    return conv(call, x, w, None).astype(np.int32)


def _transposed_pads(call: Call, sizes: tuple[int, ...], extents: list[int]) -> list[list[int]]:
    """(before, after) crop of each axis of a ConvTranspose; ``extents`` are the full outputs."""
    rank = len(sizes)
    strides = call.attr("strides") or [1] * rank
    auto = call.attr("auto_pad", "NOTSET")
    shape = call.attr("output_shape")
    if shape is None and auto.startswith("SAME"):
        shape = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    if shape is None:
        pads = call.attr("pads") or [0] * (2 * rank)
        return [[pads[i], pads[i + rank]] for i in range(rank)]
    crops = []
    for extent, wanted in zip(extents, shape[-rank:], strict=True):
        total = max(0, extent - wanted)
        small, large = total // 2, total - total // 2
        crops.append([small, large] if auto == "SAME_UPPER" else [large, small])
    return crops


@kernel("ConvTranspose")
def conv_transpose(call: Call) -> Array:
    """The gradient of a Conv: every input element adds its kernel to the output."""
    x, w, bias = call[0], call[1], call.get(2)
    rank, group = x.ndim - 2, call.attr("group", 1)
    kernel_shape = w.shape[2:]
    strides = call.attr("strides") or [1] * rank
    dilations = call.attr("dilations") or [1] * rank
    extra = call.attr("output_padding") or [0] * rank
    full = [
        s * (n - 1) + (k - 1) * d + 1 + e
        for n, k, s, d, e in zip(x.shape[2:], kernel_shape, strides, dilations, extra, strict=True)
    ]
    canvas = _scatter(x, w, group, strides, dilations, full)
    crops = _transposed_pads(call, x.shape[2:], full)
    inner = tuple(slice(b, n - a) for (b, a), n in zip(crops, full, strict=True))
    result = canvas[(slice(None), slice(None), *inner)]
    return result if bias is None else result + bias.reshape(1, -1, *([1] * rank))


def _scatter(
    x: Array, w: Array, group: int, strides: list[int], dilations: list[int], full: list[int]
) -> Array:
    """Add each kernel element's contribution to the uncropped output."""
    batch, per_group = x.shape[0], w.shape[1]
    grouped = x.reshape(batch, group, x.shape[1] // group, -1)
    filters = w.reshape(group, w.shape[0] // group, per_group, *w.shape[2:])
    canvas = np.zeros((batch, group * per_group, *full))
    taps = filters.reshape(*filters.shape[:3], -1)
    for i, at in enumerate(itertools.product(*(range(k) for k in w.shape[2:]))):
        part = np.matmul(taps[..., i].transpose(0, 2, 1), grouped)
        where = tuple(
            slice(o * d, o * d + s * (n - 1) + 1, s)
            for o, d, s, n in zip(at, dilations, strides, x.shape[2:], strict=True)
        )
        canvas[(slice(None), slice(None), *where)] += part.reshape(batch, group * per_group, *x.shape[2:])
    return canvas
