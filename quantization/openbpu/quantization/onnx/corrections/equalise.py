"""Cross-layer equalisation: channels of a tensor are scaled alike, so that one scale suits them all.

    W₁ → Relu → W₂      relu(x) · s = relu(x · s) for s > 0, so      W₁ / s → Relu → W₂ · s      is the same

The tensor between has one scale for all its channels, W₁ and W₂ have one per output channel. So W₁ is
rounded as well as before, and s may be chosen for the tensor and for W₂: channels of the tensor with a
small range are widened, as far as what reads them can be narrowed beside the other inputs of its rows,

    s = √(range of the channel / largest share that the channel has of a row of W₂)

and where a depthwise product reads it, whose every row is one channel, s is the range alone. It is
section 4.1 of Nagel et al., *Data-Free Quantization Through Weight Equalization and Bias Correction*,
2019, with observed ranges of the tensor in place of those of W₁. In float nothing changes but the
rounding of weights to float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto

from openbpu.arch.arrays import Array, Float64
from openbpu.arch.onnx_ops import CONVOLUTIONS, MATRIX_PRODUCTS, POOLS, PRODUCTS
from openbpu.arch.shapes import along
from openbpu.quantization.onnx.affine import along_output, channel_vector
from openbpu.quantization.onnx.calibrate import Progress, observed
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.nodes import attribute
from openbpu.quantization.onnx.samples import Feed
from openbpu.quantization.onnx.scaled import marked_scaled

WIDEST = 256.0
"""No channel is widened more, beside the widest one."""

TINY = 1e-12
"""Stands for 0 where something is divided by it."""

_ALIKE = frozenset({"Relu", "LeakyRelu", "PRelu", "Identity"})
"""Operators that scale with their input, whatever the layout."""


@dataclass(frozen=True, slots=True)
class Junction:
    """A tensor (`source`, channels along `axis`) between the product `maker` and the products `readers`.

    `bias`: (node, position) of the constants that are added to its channels, of the maker and behind it.
    `way`: the tensors from the maker's result to `source`, both included.
    """

    maker: int
    source: str
    axis: int
    readers: tuple[int, ...]
    bias: tuple[tuple[int, int], ...]
    way: tuple[str, ...]


def equalise(net: Net, feeds: Sequence[Feed], progress: Progress) -> tuple[Net, int]:
    """Return the float `net` with equalised channels, and how many tensors were scaled."""
    found = junctions(net)
    ranges: dict[str, Float64] = {}
    axes = {j.source: j.axis for j in found}
    for name, _, x in observed(net, list(axes), feeds, progress, "observe channels"):
        tops = np.abs(np.moveaxis(x, axes[name], -1).reshape(-1, x.shape[axes[name]])).max(
            axis=0, initial=0.0
        )
        ranges[name] = np.maximum(ranges.get(name, 0.0), tops.astype(np.float64))
    made = _Made(net)
    for junction in found:
        made.scale(junction, ranges[junction.source])
    return made.net(), made.changed


def junctions(net: Net) -> list[Junction]:
    """Return the tensors whose channels may be scaled, in the order of the net."""
    search = _Search(net)
    return [found for index in range(len(net.nodes)) if (found := search.junction(index)) is not None]


class _Search:
    """Follows what a product or a norm makes to the products that read it."""

    def __init__(self, net: Net) -> None:
        self.net, self.readers = net, net.consumers()

    def junction(self, index: int) -> Junction | None:
        node = self.net.nodes[index]
        rank = len(self.net.shapes.get(node.output[0]) or ())
        axis = _channel_axis(node, rank)
        parameters = [(index, position) for position in range(1, len(node.input)) if node.input[position]]
        if axis is None or not parameters or not all(self._is_own(*slot) for slot in parameters):
            return None
        channels = self.net.shapes[node.output[0]][axis]
        if any(self.net.consts[node.input[position]].size != channels for _, position in parameters[1:]):
            return None
        return self._follow(node.output[0], axis, index, parameters[1:])

    def _follow(self, name: str, axis: int, maker: int, bias: list[tuple[int, int]]) -> Junction | None:
        way = [name]
        while name not in self.net.outputs:
            users = self.readers.get(name, [])
            if users and all(self._is_reader(user, name, axis) for user in users):
                return Junction(maker, name, axis, tuple(users), tuple(bias), tuple(way))
            if len(users) != 1:
                return None
            node = self.net.nodes[users[0]]
            added = self._added(users[0], name, axis)
            if added is not None:
                bias.append(added)
            elif not self._scales_along(node, name, axis):
                return None
            name = node.output[0]
            way.append(name)
        return None

    def _is_own(self, index: int, position: int) -> bool:
        """Whether an operand is a float constant that nobody else reads."""
        name = self.net.nodes[index].input[position]
        return name in self.net.consts and self.net.is_float(name) and len(self.readers[name]) == 1

    def _is_reader(self, index: int, name: str, axis: int) -> bool:
        node = self.net.nodes[index]
        if node.op_type not in PRODUCTS or node.input[0] != name:
            return False
        rank, weight = len(self.net.shapes.get(name) or ()), self.net.consts.get(node.input[1])
        if axis != (1 if node.op_type.startswith("Conv") else rank - 1) or weight is None:
            return False
        return self._is_own(index, 1) and input_axis(node, weight) is not None

    def _added(self, index: int, name: str, axis: int) -> tuple[int, int] | None:
        """Return the constant that an Add gives every channel of `name`; None if it does something else."""
        node, shape = self.net.nodes[index], self.net.shapes.get(name) or ()
        if node.op_type != "Add":
            return None
        position = 1 if node.input[0] == name else 0
        array = self.net.consts.get(node.input[position])
        if array is None or not self._is_own(index, position) or array.size != shape[axis]:
            return None
        fits = channel_vector(array, len(shape), axis, array.size) is not None
        return (index, position) if fits else None

    def _scales_along(self, node: NodeProto, name: str, axis: int) -> bool:
        """Whether `node` makes of scaled channels of `name`, its input, channels scaled alike."""
        if node.input[0] != name or len(node.output) != 1:
            return False
        if node.op_type in _ALIKE:
            return all(other in self.net.consts for other in node.input[1:])
        if axis != 1:  # what is behind scales with its input channel by channel of axis 1
            return False
        if node.op_type == "Pad":
            value = (
                self.net.consts.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
            )
            before, after = self.net.shapes.get(name) or (), self.net.shapes.get(node.output[0]) or ()
            return value is not None and not value.any() and before[:2] == after[:2] != ()
        return node.op_type in POOLS or (
            node.op_type in {"Flatten", "Reshape", "Squeeze"} and self._flattens(node)
        )

    def _flattens(self, node: NodeProto) -> bool:
        """(N, C, 1, 1) → (N, C)"""
        before = self.net.shapes.get(node.input[0]) or ()
        return (
            len(before) > 2
            and all(d == 1 for d in before[2:])
            and before[:2] == self.net.shapes.get(node.output[0])
        )


def _channel_axis(node: NodeProto, rank: int) -> int | None:
    """Return the axis of the channels that a maker's parameters scale; None for no maker."""
    if rank < 2 or node.domain not in {"", "ai.onnx"}:
        return None
    if node.op_type in CONVOLUTIONS:
        return 1
    if node.op_type in {"LayerNormalization", "RMSNormalization"}:
        last = attribute(node, "axis", -1) in {-1, rank - 1} and len(node.output) == 1
        return rank - 1 if last else None
    plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
    return rank - 1 if node.op_type in MATRIX_PRODUCTS and plain else None


def input_axis(node: NodeProto, weight: Array) -> int | None:
    """Return the axis of the inputs in the weights of a product; None where there is no such one."""
    if node.op_type == "MatMul":
        return 0 if weight.ndim == 2 else None
    if node.op_type == "Gemm":
        return None if attribute(node, "transA", 0) else 1 if attribute(node, "transB", 0) else 0
    group = attribute(node, "group", 1)
    if group == 1:
        return 1 if node.op_type == "Conv" else 0
    return 0 if weight.shape[1] == 1 and (node.op_type == "Conv" or group == len(weight)) else None


class _Made:
    """Scales constants in a copy of the net's."""

    def __init__(self, net: Net) -> None:
        self._net, self._consts = net, dict(net.consts)
        self._scaled = set[str]()
        self.changed = 0

    def net(self) -> Net:
        """Return the net with what was scaled."""
        nodes = (n if self._scaled.isdisjoint(n.output) else marked_scaled(n) for n in self._net.nodes)
        return replace(self._net, nodes=tuple(nodes), consts=self._consts)

    def scale(self, junction: Junction, ranges: Float64) -> None:
        """Divide the channels of a junction, and multiply what reads them."""
        readers = [self._net.nodes[index] for index in junction.readers]
        found = [shares(node, self._consts[node.input[1]], len(ranges)) for node in readers]
        dense = [share for share in found if share is not None]
        by = factors(ranges, np.max(dense, axis=0) if dense else None)
        maker = self._net.nodes[junction.maker]
        weight = self._consts[maker.input[1]]
        one = 1 / by if weight.ndim == 1 else along_output(maker, weight, 1 / by)
        self._consts[maker.input[1]] = (weight * one).astype(np.float32)
        for index, position in junction.bias:
            name = self._net.nodes[index].input[position]
            bias = self._consts[name]
            self._consts[name] = (bias.reshape(-1) / by).astype(np.float32).reshape(bias.shape)
        for node in readers:
            weight = self._consts[node.input[1]]
            self._consts[node.input[1]] = (weight * along_input(node, weight, by)).astype(np.float32)
        self._scaled.update(junction.way)
        self.changed += 1


def factors(ranges: Float64, share: Float64 | None) -> Float64:
    """Return what each channel is divided by, at most 1: see above. `share` None: only depthwise readers."""
    top = ranges / max(float(ranges.max(initial=0.0)), TINY)
    found = top if share is None else np.sqrt(top / np.maximum(share, TINY))
    found = np.where(top > 0, found / max(float(found.max(initial=0.0)), TINY), 1.0)
    return np.maximum(found, 1 / WIDEST)


def along_input(node: NodeProto, weight: Array, by: Float64) -> Float64:
    """Return `by`, one per channel that the product reads, shaped to multiply the weights."""
    axis = input_axis(node, weight) or 0
    each = np.repeat(by, weight.shape[axis] // len(by))
    return each.reshape(along(axis, weight.ndim))


def shares(node: NodeProto, weight: Array, channels: int) -> Float64 | None:
    """Return the largest share that each channel has of a row of the weights, 0 … 1; None if depthwise."""
    axis = input_axis(node, weight) or 0
    if node.op_type.startswith("Conv") and attribute(node, "group", 1) > 1:
        return None
    rows = np.moveaxis(weight, axis, 0).reshape(channels, weight.shape[1 - axis], -1).astype(np.float64)
    sizes = np.abs(rows).max(axis=2, initial=0.0)
    found: Float64 = (sizes / np.maximum(sizes.max(axis=0), TINY)).max(axis=1)
    return found
