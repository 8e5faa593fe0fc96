"""What calibration data look like: the kind of pixels, and signs that they are not what the model knows.

No data can prove that they are scaled as in training; what they are is said in any case, and what no training
set is (constants, noise, raw pixels in front of a network that does not divide them, …) is doubted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from openbpu.arch.arrays import Array, Float64
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.outliers import outlier_doubt
from openbpu.quantization.onnx.samples import Feed

_CHANNELS = {1, 3, 4}
_LOOKED_AT = 32
"""Samples that are looked at."""

_SMALL = 0.1
"""Of many pictures some pixel is brighter than this share of white."""

_UNRELATED = 0.05
"""Neighbours of a picture correlate by 0.8 and more, those of noise by 1 / √pixels."""


@dataclass(frozen=True, slots=True)
class InputLook:
    """What the values of an input are. kind: in words · doubts: why they may be wrong, as sentences."""

    name: str
    low: float
    high: float
    mean: float
    std: float
    kind: str
    doubts: tuple[str, ...]


def look_at(net: Net, feeds: Sequence[Feed]) -> tuple[InputLook, ...]:
    """Return a look at every float input of `net` over its samples."""
    return tuple(
        _look(name, [feed[name] for feed in feeds], net)
        for name in net.inputs
        if net.is_live(name) and feeds and feeds[0][name].size
    )


def _look(name: str, every: Sequence[Array], net: Net) -> InputLook:
    samples = every[:_LOOKED_AT]
    values = np.concatenate([np.asarray(x, dtype=np.float64).reshape(-1) for x in samples])
    values = values[np.isfinite(values)] if not np.isfinite(values).all() else values
    if not values.size:
        return InputLook(name, 0.0, 0.0, 0.0, 0.0, "nothing finite", ())
    low, high, mean, std = (float(f(values)) for f in (np.min, np.max, np.mean, np.std))
    axis = _channel_axis(samples[0])
    kind = _kind(values, low, high, mean, std) if axis is not None else "no picture"
    doubts = list(_doubts(name, samples, axis, kind, net, (low, high, mean, std)))
    outlier = outlier_doubt(every) if low < high else None
    return InputLook(name, low, high, mean, std, kind, (*doubts, *([outlier] if outlier else ())))


def _channel_axis(sample: Array) -> int | None:
    """Return the axis of the channels of a picture (B, C, H, W) or (B, H, W, C); None for what is none."""
    if sample.ndim != 4 or min(sorted(sample.shape[1:])[1:]) < 8:
        return None
    return next((axis for axis in (1, 3) if sample.shape[axis] in _CHANNELS), None)


def _kind(values: Float64, low: float, high: float, mean: float, std: float) -> str:
    whole = bool((values == np.rint(values)).all())
    if whole and low >= 0 and 1 < high <= 255:
        return "pixels 0..255"
    if low >= 0 and _SMALL <= high <= 1:
        return "pixels 0..1, not normalised"
    if whole and -128 <= low < 0 and high <= 127 and high - low > 20:
        return "pixels -128..127"
    if -1 <= low < 0 and high <= 1:
        return "pixels -1..1"
    return "normalised" if low < 0 < high and abs(mean) < 2 and 0.2 < std < 3 else "of another scale"


def _doubts(
    name: str,
    samples: Sequence[Array],
    axis: int | None,
    kind: str,
    net: Net,
    moments: tuple[float, float, float, float],
) -> Iterator[str]:
    low, high, mean, std = moments
    if low == high:
        yield f"every value is {low:g}"
        return
    if len(samples) > 1 and all(np.array_equal(samples[0], x) for x in samples[1:]):
        yield "all samples are the same"
    if axis is None:
        return
    divided = _divided(net, name)
    if kind == "pixels 0..255" and divided == 1:
        yield "raw pixels 0..255, which the model does not scale itself; most are trained on scaled ones"
    if kind.startswith("pixels 0..1") and divided >= 50:
        yield f"values within 0..1, which the model divides by {divided:.3g} itself"
    if max(high, -low) < _SMALL:
        yield f"no value is beyond {max(high, -low):.4g}: were they scaled twice?"
    if std < 0.02 * abs(mean):
        yield f"values are {mean:.4g} ± {std:.2g}, nearly all the same: do scale, mean and std go together?"
    yield from _of_channels(samples, axis)
    yield from _of_neighbours(samples, axis)


def _of_channels(samples: Sequence[Array], axis: int) -> Iterator[str]:
    count = samples[0].shape[axis]
    channels = [np.concatenate([np.take(x, c, axis).reshape(-1) for x in samples]) for c in range(count)]
    dead = [c for c, values in enumerate(channels) if values.min() == values.max()]
    if dead:
        yield f"channel {', '.join(map(str, dead))} is the same everywhere"


def _of_neighbours(samples: Sequence[Array], axis: int) -> Iterator[str]:
    """Doubt pictures whose neighbouring pixels have nothing in common."""
    pictures = [np.moveaxis(np.asarray(x, dtype=np.float64), axis, 1) for x in samples]
    pairs = [_centred(p) for p in pictures]
    products = sum(float((p[..., 1:] * p[..., :-1]).sum()) for p in pairs)
    squares = sum(float((p[..., 1:] ** 2).sum() + (p[..., :-1] ** 2).sum()) / 2 for p in pairs)
    pixels = sum(p[..., 1:].size for p in pairs)
    if squares > 0 and pixels >= 4000 and abs(products / squares) < _UNRELATED:
        yield "neighbouring pixels have nothing in common: noise, or a wrong layout"


def _centred(picture: Float64) -> Float64:
    centred: Float64 = picture - picture.mean(axis=(2, 3), keepdims=True)
    return centred


def _divided(net: Net, name: str) -> float:
    """Return by how much the model itself divides an input before all else; 1 where it does not."""
    readers, factor, tensor = net.consumers(), 1.0, name
    while len(readers.get(tensor, [])) == 1:
        node = net.nodes[readers[tensor][0]]
        other = next((net.consts[n] for n in node.input if n in net.consts), None)
        if node.op_type in {"Div", "Mul"} and other is not None and other.size and np.all(other != 0):
            typical = float(np.abs(other).mean())
            factor *= typical if node.op_type == "Div" else 1 / typical
        elif node.op_type == "BatchNormalization":
            variance = net.consts.get(node.input[4])
            factor *= float(np.sqrt(np.abs(variance).mean())) if variance is not None else 1.0
        elif node.op_type not in {"Sub", "Add", "Transpose", "Cast", "Identity", "Resize", "Pad"}:
            return factor if abs(factor - 1) > 1e-6 else 1.0
        tensor = node.output[0]
    return factor
