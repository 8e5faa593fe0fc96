"""Writes what was found as the operators that the BPU has.

A norm over other axes than the last ones is taken between two Transposes. A gain or a bias that varies along
other axes than those of the norm follows behind it as a depthwise convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from openbpu.arch.arrays import Array
from openbpu.quantization.onnx.net import Names, Net, Shape
from openbpu.quantization.onnx.patterns.algebra import Coefficient
from openbpu.quantization.onnx.patterns.norms import Norm
from openbpu.quantization.onnx.patterns.search import Match
from openbpu.quantization.onnx.patterns.softmax import Softmax
from openbpu.quantization.onnx.patterns.whole import Grouped

AXES_GIVEN_SUM, AXES_GIVEN = 13, 18
"""First opsets whose reductions (ReduceSum, the others) take their axes as an input."""


class Builder:
    """Collects the nodes that take the place of one node, under names that nothing else has."""

    def __init__(self, names: Names, base: str, opset: int) -> None:
        self.names, self.base, self.opset = names, base, opset
        self.nodes: list[NodeProto] = []
        self.consts: dict[str, Array] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the tensor it makes."""
        out = self.names.fresh(f"{self.base}_{kind}")
        node = helper.make_node(kind, inputs, [out], self.names.fresh(f"{out}_node"), **attributes)
        self.nodes.append(node)
        return out

    def const(self, role: str, value: Array) -> str:
        """Add a constant and return its name."""
        name = self.names.fresh(f"{self.base}_{role}")
        self.consts[name] = value
        return name

    def real(self, role: str, value: Coefficient, shape: Sequence[int]) -> str:
        """Add a float32 constant of `shape`."""
        return self.const(role, np.broadcast_to(value, tuple(shape)).astype(np.float32))

    def reduce(self, kind: str, x: str, axis: int) -> str:
        """Add a reduction of one axis, which it keeps."""
        if self.opset < (AXES_GIVEN_SUM if kind == "ReduceSum" else AXES_GIVEN):
            return self.op(kind, x, axes=[axis], keepdims=1)
        return self.op(kind, x, self.const("axes", np.asarray([axis], np.int64)), keepdims=1)

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """Add a Reshape; 0 keeps a size."""
        return self.op("Reshape", x, self.const("shape", np.asarray(shape, np.int64)))


def written(net: Net, match: Match, names: Names) -> Builder:
    """Return the nodes of a match; the last makes the tensor of the old one under its name."""
    root = net.nodes[match.root]
    build, shape = Builder(names, root.output[0], net.opset), net.shapes[match.x]
    if isinstance(match.what, Norm):
        _norm(build, match.x, shape, match.what)
    elif isinstance(match.what, Grouped):
        _grouped(build, match.x, shape, match.what)
    else:
        _softmax(build, match.x, match.what)
    last = build.nodes[-1]
    last.output[0], last.name = root.output[0], root.name
    for node in build.nodes:
        node.metadata_props.extend(root.metadata_props)
    return build


def _softmax(build: Builder, x: str, what: Softmax) -> str:
    """Softmax is an operator of the BPU; its logarithm is none, but each of these steps is."""
    if not what.in_steps:
        return build.op("LogSoftmax" if what.log else "Softmax", x, axis=what.axis)
    d = build.op("Sub", x, build.reduce("ReduceMax", x, what.axis))
    return build.op("Sub", d, build.op("Log", build.reduce("ReduceSum", build.op("Exp", d), what.axis)))


def _norm(build: Builder, x: str, shape: Shape, norm: Norm) -> str:
    """Write a norm, between Transposes where its axes are not the last ones."""
    rank = len(shape)
    gain, bias = (_full(value, rank) for value in (norm.gain, norm.bias))
    order = _order(norm.axes, gain, bias)
    if order == list(range(rank)):
        return _norm_of_last(build, x, shape, norm, gain, bias)
    x = build.op("Transpose", x, perm=order)
    moved = [shape[axis] for axis in order]
    y = _norm_of_last(build, x, tuple(moved), norm, gain.transpose(order), bias.transpose(order))
    return build.op("Transpose", y, perm=[int(i) for i in np.argsort(order)])


def _order(axes: Sequence[int], gain: Coefficient, bias: Coefficient) -> list[int]:
    """Return the axes with those of the norm last.

    A gain along others of them, as of groups with channels last, then has its own beside those.
    """
    rank = gain.ndim
    order = [*(axis for axis in range(rank) if axis not in axes), *axes]
    varies = {*_varies_along(gain), *_varies_along(bias)}
    if order == list(range(rank)) or varies <= set(axes):
        return order
    return [*order[: rank - len(axes)], *sorted(axes, key=lambda axis: (axis not in varies, axis))]


def _norm_of_last(
    build: Builder, x: str, shape: Shape, norm: Norm, gain: Coefficient, bias: Coefficient
) -> str:
    """Write a norm over the last axes of `x`: what varies along others follows behind it."""
    rank, count = len(shape), len(norm.axes)
    axes = range(rank - count, rank)
    gain_inside = _varies_only_along(gain, axes)
    bias_inside = norm.centred and gain_inside and _varies_only_along(bias, axes)
    lengths = _lengths(shape, axes, gain, bias)
    inputs = [x, build.real("gain", _along(gain, axes) if gain_inside else np.ones(1), lengths)]
    if bias_inside and bias.any():
        inputs.append(build.real("bias", _along(bias, axes), lengths))
    kind = "LayerNormalization" if norm.centred else "RMSNormalization"
    y = build.op(kind, *inputs, axis=-count, epsilon=norm.epsilon)
    one, zero = (_full(np.asarray(value), rank) for value in (1.0, 0.0))
    return _affine(build, y, shape, one if gain_inside else gain, zero if bias_inside else bias)


def _lengths(shape: Shape, axes: Sequence[int], gain: Coefficient, bias: Coefficient) -> list[int]:
    """Return the shape of gain and bias in the operator: that of the axes, or less where one is free."""
    sizes = [size for axis in axes if isinstance(size := shape[axis], int)]
    return sizes if len(sizes) == len(axes) else [max(gain.shape[axis], bias.shape[axis]) for axis in axes]


def _full(value: Coefficient, rank: int) -> Coefficient:
    return value.reshape((1,) * (rank - value.ndim) + value.shape)


def _varies_along(value: Coefficient) -> list[int]:
    return [axis for axis, size in enumerate(value.shape) if size != 1]


def _varies_only_along(value: Coefficient, axes: Sequence[int]) -> bool:
    return set(_varies_along(value)) <= set(axes)


def _along(value: Coefficient, axes: Sequence[int]) -> Coefficient:
    return value.reshape([value.shape[axis] for axis in axes])


def _grouped(build: Builder, x: str, shape: Shape, what: Grouped) -> str:
    one, zero = np.asarray(1.0), np.asarray(0.0)
    rows = build.reshape(x, [0, what.groups, -1])
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    length = math.prod(sizes) // what.groups if len(sizes) == len(shape) - 1 else None
    plain = Norm((2,), what.epsilon, one, zero, centred=True)
    y = _norm(build, rows, (None, what.groups, length), plain)
    if length is not None:
        gain, bias = (_full(value, len(shape)) for value in (what.gain, what.bias))
        return _affine(build, build.reshape(y, [0, *sizes]), shape, gain, bias)
    y = build.reshape(y, [0, what.gain.size, -1])  # of a shape that is seen without its free sizes
    gain, bias = (value.reshape(1, -1, 1) for value in (what.gain, what.bias))
    y = _affine(build, y, (None, what.gain.size, None), gain, bias)
    return build.op("Reshape", y, build.op("Shape", x))


def _affine(build: Builder, x: str, shape: Shape, gain: Coefficient, bias: Coefficient) -> str:
    """Add x · gain + bias: a depthwise Conv where the axes that they vary along are channels, or can be."""
    varies = sorted({*_varies_along(gain), *_varies_along(bias)})
    sizes = [int(size) if isinstance(size, int) else 0 for size in shape]
    if varies == [1] and len(shape) in {3, 4, 5}:
        return _depthwise(build, x, len(shape), gain.reshape(-1), bias.reshape(-1))
    if varies and varies[0] == 1 and all(sizes[1:]):
        span = sizes[1 : varies[-1] + 1]
        wide = (np.broadcast_to(v, (1, *span, *v.shape[len(span) + 1 :])).reshape(-1) for v in (gain, bias))
        y = _depthwise(build, build.reshape(x, [0, math.prod(span), -1]), 3, *wide)
        return build.reshape(y, [0, *sizes[1:]])
    for kind, role, value in (("Mul", "gain", gain), ("Add", "bias", bias)):
        if not (value == (kind == "Mul")).all():
            x = build.op(kind, x, build.real(role, value, value.shape))
    return x


def _depthwise(build: Builder, x: str, rank: int, gain: Coefficient, bias: Coefficient) -> str:
    channels = max(gain.size, bias.size)
    weight = build.real("weight", gain.reshape(-1, *(1,) * (rank - 1)), (channels, *(1,) * (rank - 1)))
    return build.op("Conv", x, weight, build.real("bias", bias, (channels,)), group=channels)
