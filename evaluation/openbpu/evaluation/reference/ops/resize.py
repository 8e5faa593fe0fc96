"""Resize and Upsample: separable, one matrix (or index list) per axis."""

from __future__ import annotations

import numpy as np

from openbpu.evaluation.reference.kernel import Array, Call, kernel


def coordinates(mode: str, size: int, outputs: int, scale: float, dtype: type) -> Array:
    """Where each output position falls in the input, in units of input elements."""
    at: Array = np.arange(outputs, dtype=dtype)
    factor: Array = np.asarray(scale, dtype=dtype)
    half: Array = np.asarray(0.5, dtype=dtype)
    if mode == "asymmetric":
        return np.asarray(at / factor)
    if mode == "align_corners":
        return np.asarray(at * (size - 1) / max(1, outputs - 1), dtype=dtype)
    if mode == "tf_half_pixel_for_nn":
        return np.asarray((at + half) / factor)
    if mode == "pytorch_half_pixel" and outputs == 1:
        return np.zeros(1, dtype)
    centered = (at + half) / factor - half
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return np.asarray(centered)
    if mode == "half_pixel_symmetric":
        adjusted = outputs / (float(factor) * size)
        return np.asarray(size / 2 * (1 - adjusted) + centered)
    raise NotImplementedError(f"witness: Resize coordinate mode {mode}")


def _nearest(x: Array, rounding: str) -> Array:
    if rounding == "floor":
        return np.floor(x)
    if rounding == "ceil":
        return np.ceil(x)
    if rounding == "round_prefer_ceil":
        return np.floor(x + 0.5)
    return np.ceil(x - 0.5)


def keys_cubic(distance: Array, a: float) -> Array:
    """Keys' cubic kernel."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _matrix(at: Array, size: int, call: Call) -> Array:
    """(outputs, size) weights of linear or cubic interpolation; edges repeat."""
    linear = call.attr("mode") == "linear"
    base = np.floor(at)
    reach = (0, 1) if linear else (-1, 0, 1, 2)
    outside = np.zeros((len(at), size))
    total = np.zeros(len(at))
    for offset in reach:
        index = base + offset
        distance = at - index
        weight = 1 - np.abs(distance) if linear else keys_cubic(distance, call.real("cubic_coeff_a", -0.75))
        if call.attr("exclude_outside", 0):
            weight = np.where((index < 0) | (index >= size), 0.0, weight)
        np.add.at(outside, (np.arange(len(at)), np.clip(index, 0, size - 1).astype(int)), weight)
        total += weight
    return outside / total[:, None]


def _weights(at: Array, size: int, call: Call) -> Array:
    """(outputs, size) weights of any mode."""
    if call.attr("mode", "nearest") != "nearest":
        return _matrix(at, size, call)
    index = _nearest(at, call.attr("nearest_mode", "round_prefer_floor"))
    return np.eye(size)[np.clip(index, 0, size - 1).astype(np.int64)]


def _crop(call: Call, axis: int, size: int, outputs: int) -> Array:
    """tf_crop_and_resize: the coordinates of the region of interest."""
    roi, axes = call[1], list(call.attr("axes") or range(call[0].ndim))
    place = [a % call[0].ndim for a in axes].index(axis)
    start, end = float(roi[place]) * (size - 1), float(roi[place + len(axes)]) * (size - 1)
    return np.linspace(start, end, outputs) if outputs > 1 else np.array([(start + end) / 2])


def _axis(x: Array, axis: int, outputs: int, scale: float, call: Call) -> Array:
    """Resample one axis."""
    size = x.shape[axis]
    mode = call.attr("coordinate_transformation_mode", "half_pixel")
    if mode == "tf_crop_and_resize":
        at = _crop(call, axis, size, outputs)
        result = np.moveaxis(np.tensordot(_weights(at, size, call), x, axes=(1, axis)), 0, axis)
        outside = ((at < 0) | (at > size - 1)).reshape(-1, *([1] * (x.ndim - axis - 1)))
        return np.where(outside, call.real("extrapolation_value", 0.0), result)
    if call.attr("mode", "nearest") == "nearest":
        # Which neighbour is nearest is decided in float32, as every runtime does.
        at = coordinates(mode, size, outputs, scale, np.float32)
        index = _nearest(at, call.attr("nearest_mode", "round_prefer_floor"))
        return x.take(np.clip(index, 0, size - 1).astype(np.int64), axis=axis)
    weights = _matrix(coordinates(mode, size, outputs, scale, np.float64), size, call)
    return np.moveaxis(np.tensordot(weights, x, axes=(1, axis)), 0, axis)


def _fit(sizes: list[int], shape: list[int], policy: str) -> tuple[list[int], list[float]]:
    """Output sizes and scales for ``keep_aspect_ratio_policy``."""
    ratios = [s / n for s, n in zip(sizes, shape, strict=True)]
    if policy == "stretch":
        return sizes, ratios
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [int(np.floor(ratio * n + 0.5)) for n in shape], [ratio] * len(shape)


def _targets(call: Call, x: Array) -> dict[int, tuple[int, float]]:
    """Axis -> (output size, scale)."""
    scales, sizes = call.get(2 if call.opset >= 11 else 1), call.get(3)
    axes = call.attr("axes") or list(range(x.ndim))
    shape = [x.shape[a] for a in axes]
    if sizes is not None and sizes.size:
        policy = call.attr("keep_aspect_ratio_policy", "stretch")
        outputs, factors = _fit([int(s) for s in sizes], shape, policy)
    elif scales is not None and scales.size:
        factors = [float(s) for s in scales]
        outputs = [int(np.floor(n * f)) for n, f in zip(shape, factors, strict=True)]
    else:
        raise ValueError("Resize: scales or sizes must be given, not neither")
    return dict(zip(axes, zip(outputs, factors, strict=True), strict=True))


@kernel("Resize")
def resize(call: Call) -> Array:
    """Resize since opset 10 (which is Upsample with another name)."""
    if call.attr("antialias", 0):
        raise NotImplementedError("witness: Resize with antialias")
    if call.opset < 11:
        return _upsample(call, [float(s) for s in call[1]])
    x = call[0]
    crops = call.attr("coordinate_transformation_mode") == "tf_crop_and_resize"
    for axis, (outputs, scale) in _targets(call, x).items():
        if outputs != x.shape[axis] or scale != 1.0 or crops:
            x = _axis(x, axis % x.ndim, outputs, scale, call)
    return x


def _upsample(call: Call, scales: list[float]) -> Array:
    """Asymmetric coordinates and floor, as before opset 11."""
    attrs = {
        "mode": call.attr("mode", "nearest"),
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    as_resize = Call("Resize", attrs, call.inputs[:1], 11, 1)
    x = call[0]
    for axis, scale in enumerate(scales):
        if scale != 1.0:
            x = _axis(x, axis, int(np.floor(x.shape[axis] * scale)), scale, as_resize)
    return x


@kernel("Upsample")
def upsample(call: Call) -> Array:
    """Upsample-7 has its scales as an attribute, Upsample-9 as an input."""
    scales = call.attrs.get("scales")
    return _upsample(call, [float(s) for s in (call[1] if scales is None else scales)])
