"""Normalizations and softmax."""

from __future__ import annotations

import numpy as np

from openbpu.evaluation.reference.kernel import Array, Call, kernel


def _channelwise(value: Array, rank: int) -> Array:
    return value.reshape(1, -1, *([1] * (rank - 2)))


@kernel("BatchNormalization")
def batch_normalization(call: Call) -> Array:
    """Inference form: running mean and variance."""
    if call.attr("training_mode", 0):
        raise NotImplementedError("witness: BatchNormalization in training mode")
    x = call[0]
    scale, bias, mean, variance = (_channelwise(call[i], x.ndim) for i in range(1, 5))
    return (x - mean) / np.sqrt(variance + call.real("epsilon", 1e-5)) * scale + bias


def _standardize(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    centered = x - x.mean(axis=axes, keepdims=True)
    variance = np.mean(centered * centered, axis=axes, keepdims=True)
    return np.asarray(centered / np.sqrt(variance + epsilon))


@kernel("LayerNormalization")
def layer_normalization(call: Call) -> Array:
    """Over the axes from ``axis`` to the last."""
    x = call[0]
    axes = tuple(range(call.attr("axis", -1) % x.ndim, x.ndim))
    result = _standardize(x, axes, call.real("epsilon", 1e-5)) * call[1]
    bias = call.get(2)
    return result if bias is None else result + bias


@kernel("RMSNormalization", "SimplifiedLayerNormalization")
def rms_normalization(call: Call) -> Array:
    """``x / sqrt(mean(x^2) + eps) * scale``."""
    x = call[0]
    axes = tuple(range(call.attr("axis", -1) % x.ndim, x.ndim))
    square = np.mean(x * x, axis=axes, keepdims=True)
    return np.asarray(x / np.sqrt(square + call.real("epsilon", 1e-5)) * call[1])


@kernel("InstanceNormalization")
def instance_normalization(call: Call) -> Array:
    """Over the spatial axes of each image and channel."""
    x = call[0]
    axes = tuple(range(2, x.ndim))
    scale, bias = _channelwise(call[1], x.ndim), _channelwise(call[2], x.ndim)
    return _standardize(x, axes, call.real("epsilon", 1e-5)) * scale + bias


@kernel("GroupNormalization")
def group_normalization(call: Call) -> Array:
    """Over groups of channels; scale and bias are per group before opset 21."""
    x, groups = call[0], call.attrs["num_groups"]
    grouped = x.reshape(x.shape[0], groups, -1)
    result = _standardize(grouped, (2,), call.real("epsilon", 1e-5)).reshape(x.shape)
    repeat = x.shape[1] // groups if call.opset < 21 else 1
    scale, bias = (_channelwise(np.repeat(call[i], repeat), x.ndim) for i in (1, 2))
    return result * scale + bias


@kernel("LpNormalization")
def lp_normalization(call: Call) -> Array:
    """``x / ||x||_p`` along one axis, 0 where the norm is 0."""
    x, axis = call[0], call.attr("axis", -1)
    norm = np.linalg.norm(x, call.attr("p", 2), axis, keepdims=True)
    return np.where(norm == 0, 0.0, x / np.where(norm == 0, 1.0, norm))


def softmax(x: Array, axes: int | tuple[int, ...]) -> Array:
    """``e^x / sum(e^x)`` over the axes."""
    exponential = np.exp(x - x.max(axis=axes, keepdims=True))
    return np.asarray(exponential / exponential.sum(axis=axes, keepdims=True))


def softmax_axes(call: Call) -> int | tuple[int, ...]:
    """One axis since opset 13; every axis from ``axis`` on before."""
    rank = call[0].ndim
    if call.opset >= 13:
        return int(call.attr("axis", -1)) % rank
    return tuple(range(call.attr("axis", 1) % rank, rank))


@kernel("Softmax")
def softmax_float(call: Call) -> Array:
    """Softmax as the specification has it."""
    return softmax(call[0], softmax_axes(call))


@kernel("Hardmax")
def hardmax(call: Call) -> Array:
    """1 at the first of the largest values of a row, 0 elsewhere."""
    x, found = call[0], softmax_axes(call)
    axes = (found,) if isinstance(found, int) else found
    rows = np.moveaxis(x, axes, range(-len(axes), 0))
    flat = rows.reshape(*rows.shape[: x.ndim - len(axes)], -1)
    made = np.zeros_like(flat)
    np.put_along_axis(made, flat.argmax(axis=-1, keepdims=True), 1.0, axis=-1)
    return np.asarray(np.moveaxis(made.reshape(rows.shape), range(-len(axes), 0), axes))


@kernel("LogSoftmax")
def log_softmax(call: Call) -> Array:
    """The logarithm of softmax."""
    return np.log(softmax(call[0], softmax_axes(call)))
