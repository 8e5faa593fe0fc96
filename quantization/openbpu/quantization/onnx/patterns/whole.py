"""What is one ONNX operator, but not one that the BPU has.

InstanceNormalization, GroupNormalization, MeanVarianceNormalization   →   LayerNormalization
LpNormalization (p = 2)                                                →   RMSNormalization
LogSoftmax                                                             →   its steps, which the BPU has
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from openbpu.arch import numerics
from openbpu.arch.arrays import Array
from openbpu.quantization.onnx.net import Net, Shape
from openbpu.quantization.onnx.nodes import attribute
from openbpu.quantization.onnx.patterns.algebra import Coefficient
from openbpu.quantization.onnx.patterns.norms import Norm
from openbpu.quantization.onnx.patterns.softmax import Softmax

_LENGTH_OF_ZEROS = 1e-30
"""What is added to the mean square of a row that is divided by its length: a row of zeros stays zeros."""

_MVN_ADDED = 1e-9
"""What ONNX's MeanVarianceNormalization adds to the deviation."""

OPSET_SOFTMAX = 13
"""First opset whose Softmax is over one axis, whichever it is."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """A tensor (N, C, …) normalized within each of `groups` of its channels, then scaled and shifted."""

    groups: int
    epsilon: float
    gain: Coefficient
    bias: Coefficient


def whole(node: NodeProto, net: Net) -> Norm | Grouped | Softmax | None:
    """Return what a single node computes, if the BPU has other operators for it."""
    read = REWRITTEN.get(node.op_type) if node.domain in {"", "ai.onnx"} else None
    shape = net.shapes.get(node.input[0]) if read and node.input else None
    if read is None or shape is None or not net.is_live(node.input[0]):
        return None
    return read(node, net, shape)


def _instance(node: NodeProto, net: Net, shape: Shape) -> Norm | None:
    parameters = _per_channel(node, net, shape)
    axes = tuple(range(2, len(shape)))
    if parameters is None or not axes or not _is_short(shape[2:]):
        return None
    return Norm(axes, float(attribute(node, "epsilon", 1e-5)), *parameters, centred=True)


def _group(node: NodeProto, net: Net, shape: Shape) -> Grouped | None:
    groups, parameters = int(attribute(node, "num_groups", 1)), _per_channel(node, net, shape)
    channels = shape[1] if len(shape) > 2 else None
    if parameters is None or not isinstance(channels, int) or groups < 1 or channels % groups:
        return None
    if not _is_short((channels // groups, *shape[2:])):
        return None
    return Grouped(groups, float(attribute(node, "epsilon", 1e-5)), *parameters)


def _mean_variance(node: NodeProto, _: Net, shape: Shape) -> Norm | None:
    axes = tuple(sorted({int(axis) % len(shape) for axis in attribute(node, "axes", (0, 2, 3))}))
    if not axes or not _is_short([shape[axis] for axis in axes]):
        return None
    return Norm(axes, _MVN_ADDED**2, np.asarray(1.0), np.asarray(0.0), centred=True)


def _length(node: NodeProto, _: Net, shape: Shape) -> Norm | None:
    axis = int(attribute(node, "axis", -1)) % len(shape)
    size = shape[axis]
    if attribute(node, "p", 2) != 2 or not isinstance(size, int) or not _is_short((size,)):
        return None
    return Norm((axis,), _LENGTH_OF_ZEROS, np.asarray(1 / math.sqrt(size)), np.asarray(0.0), centred=False)


def _log_softmax(node: NodeProto, net: Net, shape: Shape) -> Softmax | None:
    axis = int(attribute(node, "axis", -1)) % max(len(shape), 1)
    return (
        Softmax(axis, log=True)
        if shape and net.opset >= OPSET_SOFTMAX and _is_short(shape[axis : axis + 1])
        else None
    )


REWRITTEN: Mapping[str, Callable[[NodeProto, Net, Shape], Norm | Grouped | Softmax | None]] = {
    "GroupNormalization": _group,
    "InstanceNormalization": _instance,
    "LogSoftmax": _log_softmax,
    "LpNormalization": _length,
    "MeanVarianceNormalization": _mean_variance,
}


def _per_channel(node: NodeProto, net: Net, shape: Shape) -> tuple[Coefficient, Coefficient] | None:
    """Return constant scale and bias of axis 1, as arrays that broadcast over the tensor."""
    channels = shape[1] if len(shape) > 1 else None
    given = [net.consts.get(name) for name in node.input[1:3]]
    arrays = [_wide(array, channels) for array in given if array is not None and isinstance(channels, int)]
    if len(arrays) != 2 or arrays[0] is None or arrays[1] is None:
        return None
    tail = (1,) * (len(shape) - 2)
    return arrays[0].reshape(-1, *tail), arrays[1].reshape(-1, *tail)


def _wide(array: Array, channels: int) -> Coefficient | None:
    """Return a value per channel; one per group, as before opset 21, is repeated."""
    if not array.size or channels % array.size or not np.isfinite(array).all():
        return None
    return np.repeat(array.reshape(-1).astype(np.float64), channels // array.size)


def _is_short(sizes: Shape | list[int | str | None]) -> bool:
    """Whether the BPU can normalize over axes of these sizes; free ones may turn out short."""
    return 0 < math.prod(size for size in sizes if isinstance(size, int)) <= numerics.MAX_NORM_LENGTH
