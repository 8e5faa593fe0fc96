"""Which operand of a Concat every channel comes from that a product behind it reads.

    boxes (4) ─┐
    scores (2) ┴ Concat → Relu → Transpose → MatMul          labels of the channels: 0 0 0 0 1 1

The way leads over what moves values or keeps their factors (Relu, products with another tensor, pools). A
product with a constant per channel (Mul) is a reader like a MatMul. Labels are carried along as an array of
the tensor's shape, axes of unknown length as 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from openbpu.arch.onnx_ops import POOLS, PRODUCTS, RESHAPES
from openbpu.arch.shapes import along
from openbpu.quantization.onnx.corrections.equalise import input_axis
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.nodes import attribute

Labels = npt.NDArray[np.int16]

_MOST = 1 << 24
"""Elements of a tensor that labels are carried for."""

_KEEP = frozenset({"Identity", "LeakyRelu", "Relu"})
_TIMES = frozenset({"Mul", "Div"})


@dataclass(frozen=True, slots=True)
class Reading:
    """The products that read a Concat: index → the operand that each channel comes from, along `axes[index]`.

    passes: the nodes between · tensors: what lies between, in order, the result of the Concat first · kept:
    those of them that something else reads too, or that are outputs, and what these are made of.
    """

    channels: dict[int, Labels]
    axes: dict[int, int]
    passes: frozenset[int]
    tensors: tuple[str, ...]
    kept: frozenset[str]


def read_by_products(net: Net, index: int) -> Reading | None:
    """Return which products of own weights read the Concat `index`; None where none does."""
    labels = first_labels(net, net.nodes[index])
    walk = _Walk(net)
    if labels is None or not walk.follow(str(net.nodes[index].output[0]), labels) or walk.meets:
        return None
    return Reading(
        walk.channels, walk.axes, frozenset(walk.passes), tuple(walk.tensors[::-1]), frozenset(walk.kept)
    )


class _Walk:
    """Goes from a Concat to the products behind it, over all ways there are."""

    def __init__(self, net: Net) -> None:
        self._net, self._readers = net, net.consumers()
        self.channels: dict[int, Labels] = {}
        self.axes: dict[int, int] = {}
        self.passes, self.kept = set[int](), set[str]()
        self.tensors: list[str] = []
        self.meets = False  # two ways meet again: the factors of both would multiply

    def follow(self, name: str, labels: Labels) -> bool:
        """Return whether a product reads `name`, moved or not; notes what lies between."""
        led, kept = False, name in self._net.outputs
        for user in dict.fromkeys(self._readers.get(name, [])):
            axis = _axis(self._net, user, name, labels, self._readers)
            if axis is not None:
                self.channels[user], self.axes[user] = _along(labels, axis), axis
                led = True
                continue
            behind = self._behind(user, name, labels)
            led |= behind is not None
            kept |= behind is None or behind in self.kept
        if led:
            self.tensors.append(name)
            self.kept |= {name} if kept else set()
        return led

    def _behind(self, user: int, name: str, labels: Labels) -> str | None:
        """Return what `user` makes of `name` on the way to a product; None where it is on none."""
        node = self._net.nodes[user]
        found = behind(self._net, node, name, labels) if node.domain in {"", "ai.onnx"} else None
        made = str(node.output[0])
        if found is None or len(list(filter(None, node.output))) > 1 or not self.follow(made, found):
            return None
        self.meets |= user in self.passes
        self.passes.add(user)
        return made


def _sizes(net: Net, name: str) -> tuple[int, ...] | None:
    shape = net.consts[name].shape if name in net.consts else net.shapes.get(name)
    return None if shape is None else tuple(d if isinstance(d, int) else 1 for d in shape)


def first_labels(net: Net, concat: NodeProto) -> Labels | None:
    """Return the labels of what a Concat makes; None where lengths are not known, or it is too large."""
    shape, axis = _sizes(net, concat.output[0]), attribute(concat, "axis", 0)
    parts = [_sizes(net, name) for name in concat.input]
    if shape is None or int(np.prod(shape, dtype=np.int64)) > _MOST:
        return None
    if any(part is None or len(part) != len(shape) for part in parts):
        return None
    lengths = [part[axis] for part in parts if part is not None]
    if sum(lengths) != shape[axis] or not isinstance((net.shapes.get(concat.output[0]) or ())[axis], int):
        return None
    line = np.repeat(np.arange(len(lengths), dtype=np.int16), lengths)
    return np.broadcast_to(line.reshape(along(axis, len(shape))), shape)


def behind(net: Net, node: NodeProto, name: str, labels: Labels) -> Labels | None:
    """Return the labels of what `node` makes of `name`; None where it mixes or does not keep factors."""
    shape = _sizes(net, node.output[0])
    if shape is None or list(node.input).count(name) != 1:
        return None
    if node.op_type in _TIMES:
        first = node.input[0] == name or node.op_type == "Mul"
        return labels if first and shape == labels.shape else None
    if node.input[0] != name:
        return None
    if node.op_type in _KEEP:
        return labels
    if node.op_type == "Transpose":
        return labels.transpose(attribute(node, "perm", list(range(labels.ndim))[::-1]))
    if node.op_type in RESHAPES:
        return labels.reshape(shape) if int(np.prod(shape)) == labels.size else None
    if node.op_type in POOLS and len(node.output) == 1 and is_of(labels, 1):
        return np.broadcast_to(labels[(slice(None), slice(None), *[slice(1)] * (labels.ndim - 2))], shape)
    return None


def is_of(labels: Labels, axis: int) -> bool:
    """Whether labels only depend on the position along `axis`."""
    rows = np.moveaxis(labels, axis, -1).reshape(-1, labels.shape[axis])
    return bool((rows == rows[:1]).all())


def _along(labels: Labels, axis: int) -> Labels:
    found: Labels = np.moveaxis(labels, axis, -1).reshape(-1, labels.shape[axis])[0]
    return found


def _axis(net: Net, index: int, name: str, labels: Labels, readers: dict[str, list[int]]) -> int | None:
    """Return the axis of the channels that the product `index` reads; None for another operator."""
    node = net.nodes[index]
    constant = constant_of(net, node)
    if node.domain not in {"", "ai.onnx"} or constant is None or list(node.input).count(name) != 1:
        return None
    weight = net.consts[node.input[constant]]
    if not net.is_float(node.input[constant]) or len(readers[node.input[constant]]) != 1:
        return None
    if node.op_type == "Mul":
        found = [a for a in range(labels.ndim) if labels.shape[a] > 1 and is_of(labels, a)]
        fits = (
            weight.size > 1 and weight.ndim <= labels.ndim and np.broadcast_shapes(weight.shape, labels.shape)
        )
        return found[0] if found and fits == labels.shape else None
    axis = 1 if node.op_type.startswith("Conv") else labels.ndim - 1
    known = node.input[0] == name and weight.ndim > 1 and input_axis(node, weight) is not None
    return axis if known and is_of(labels, axis) else None


def constant_of(net: Net, node: NodeProto) -> int | None:
    """Return the position of the weights of a product, or of the constant of a Mul; None for all else."""
    if node.op_type == "Mul":
        return next((i for i, name in enumerate(node.input) if name in net.consts), None)
    is_product = node.op_type in PRODUCTS
    return 1 if is_product and node.input[1] in net.consts else None


def each(values: Sequence[float], labels: Labels) -> npt.NDArray[np.float64]:
    """Return the value of the operand that each channel comes from."""
    return np.asarray(values, dtype=np.float64)[labels]
