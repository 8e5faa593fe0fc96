"""Convolutions of any rank, by im2col and matmul in float64."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from openbpu.evaluation.reference.kernel import Array, Call, kernel
from openbpu.evaluation.reference.ops.windows import Window, windows


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


@dataclass(frozen=True, slots=True)
class _Reach:
    """One axis of a ConvTranspose: what the kernels write, and which part of it is the output."""

    size: int
    kernel: int
    stride: int
    dilation: int
    first: int
    outputs: int

    @property
    def written(self) -> int:
        """Elements from the first to the last that any kernel writes."""
        return self.stride * (self.size - 1) + (self.kernel - 1) * self.dilation + 1

    def taps(self, offset: int) -> slice:
        """Where the kernel's element ``offset`` writes, for every input element."""
        first = offset * self.dilation
        return slice(first, first + self.stride * (self.size - 1) + 1, self.stride)


def _reaches(call: Call, sizes: tuple[int, ...], kernel_shape: tuple[int, ...]) -> list[_Reach]:
    """From pads and output_padding, or from output_shape or auto_pad."""
    rank = len(sizes)
    strides = call.attr("strides") or [1] * rank
    dilations = call.attr("dilations") or [1] * rank
    pads = call.attr("pads") or [0] * (2 * rank)
    extra = call.attr("output_padding") or [0] * rank
    auto, shape = call.attr("auto_pad", "NOTSET"), call.attr("output_shape")
    if shape is None and auto.startswith("SAME"):
        shape = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    found = []
    for i in range(rank):
        reach = _Reach(sizes[i], kernel_shape[i], strides[i], dilations[i], 0, 0)
        full = reach.written + extra[i]
        if shape is None:
            before, outputs = pads[i], full - pads[i] - pads[i + rank]
        else:
            outputs = shape[-rank:][i]
            total = max(0, full - outputs)
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
        found.append(replace(reach, first=before, outputs=outputs))
    return found


@kernel("ConvTranspose")
def conv_transpose(call: Call) -> Array:
    """The gradient of a Conv: every input element adds its kernel to the output."""
    x, w, bias = call[0], call[1], call.get(2)
    axes = _reaches(call, x.shape[2:], w.shape[2:])
    canvas = _scatter(x, w, call.attr("group", 1), axes)
    inner = tuple(slice(a.first, a.first + a.outputs) for a in axes)
    result = canvas[(slice(None), slice(None), *inner)]
    return result if bias is None else result + bias.reshape(1, -1, *([1] * len(axes)))


def _scatter(x: Array, w: Array, group: int, axes: list[_Reach]) -> Array:
    """Add each kernel element's contribution to a canvas that holds written and output alike."""
    batch, channels = x.shape[0], group * w.shape[1]
    grouped = x.reshape(batch, group, x.shape[1] // group, -1)
    taps = w.reshape(group, w.shape[0] // group, w.shape[1], -1)
    canvas = np.zeros((batch, channels, *(max(a.written, a.first + a.outputs) for a in axes)))
    for i, at in enumerate(itertools.product(*(range(a.kernel) for a in axes))):
        part = np.matmul(taps[..., i].transpose(0, 2, 1), grouped)
        where = tuple(a.taps(o) for a, o in zip(axes, at, strict=True))
        canvas[(slice(None), slice(None), *where)] += part.reshape(batch, channels, *x.shape[2:])
    return canvas
