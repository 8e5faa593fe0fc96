"""A product whose second operand is a Concat that swallows a part: one product for each part.

    a, b → Concat → Transpose ┐                    a → Transpose ┐      b → Transpose ┐
                        q ────┴ MatMul                      q ───┴ MatMul       q ────┴ MatMul → Concat

The second of two computed operands is int8, and nothing can be scaled there: what it is multiplied by is
computed, too. Where the parts stand side by side in what is summed up, the first operand is cut, and the
products are added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from openbpu.arch.arrays import Array
from openbpu.arch.onnx_ops import RESHAPES
from openbpu.quantization.onnx.inference import infer
from openbpu.quantization.onnx.labels import Labels, behind, first_labels, is_of
from openbpu.quantization.onnx.net import Names, Net
from openbpu.quantization.onnx.nodes import remake

_PASSED = RESHAPES | {"Relu", "Transpose"}


@dataclass(frozen=True, slots=True)
class Apart:
    """A Concat, the nodes behind it with the lengths of every part in what they make, and the product.

    steps: (node, axis of the parts, shape of what it makes) · lengths: of the parts along the last of these
    axes · summed: whether that is the axis that the product sums over.
    """

    concat: int
    steps: tuple[tuple[int, int, tuple[int, ...]], ...]
    lengths: tuple[int, ...]
    product: int
    summed: bool


def find_apart(net: Net, concat: int) -> Apart | None:
    """Return how the product behind a Concat can be taken apart; None where that is not how it is read."""
    readers, name = net.consumers(), str(net.nodes[concat].output[0])
    labels = first_labels(net, net.nodes[concat])
    steps: list[tuple[int, int, tuple[int, ...]]] = []
    while labels is not None and name not in net.outputs and len(readers.get(name, [])) == 1:
        (user,) = readers[name]
        node = net.nodes[user]
        if node.op_type == "MatMul" and node.input[1] == name != node.input[0]:
            return _at(net, concat, user, labels, steps)
        labels = behind(net, node, name, labels) if node.op_type in _PASSED else None
        axis = None if labels is None else _axis(labels)
        shape = net.shapes.get(node.output[0], ())
        if labels is None or axis is None or not all(isinstance(d, int) for d in shape):
            return None
        steps.append((user, axis, tuple(int(d or 0) for d in shape)))
        name = str(node.output[0])
    return None


def _at(
    net: Net, concat: int, product: int, labels: Labels, steps: Sequence[tuple[int, int, tuple[int, ...]]]
) -> Apart | None:
    axis, node = _axis(labels), net.nodes[product]
    operand, result = (net.shapes.get(name) for name in (node.input[0], node.output[0]))
    if axis is None or axis < labels.ndim - 2 or not operand or not result or node.input[0] in net.consts:
        return None
    lengths = np.bincount(_line(labels, axis), minlength=len(net.nodes[concat].input))
    return Apart(concat, tuple(steps), tuple(map(int, lengths)), product, axis == labels.ndim - 2)


def _axis(labels: Labels) -> int | None:
    """Return the axis along which the parts stand one behind the other, if that is all there is to them."""
    found = [axis for axis in range(labels.ndim) if labels.shape[axis] > 1 and is_of(labels, axis)]
    axis = found[0] if len(found) == 1 else None
    return axis if axis is not None and bool((np.diff(_line(labels, axis)) >= 0).all()) else None


def _line(labels: Labels, axis: int) -> Labels:
    found: Labels = np.moveaxis(labels, axis, -1).reshape(-1, labels.shape[axis])[0]
    return found


def taken_apart(net: Net, name: str) -> Net:
    """Return `net` with a product for every part of the Concat that makes `name`."""
    index = net.producers().get(name)
    how = None if index is None else find_apart(net, index)
    if how is None:
        return net
    made = _Parts(net, how)
    gone = {how.concat, *(step for step, _, _ in how.steps)}
    nodes = [
        one
        for i, node in enumerate(net.nodes)
        if i not in gone
        for one in (made.nodes() if i == how.product else [node])
    ]
    return infer(net.with_nodes(nodes, made.consts))


class _Parts:
    """Makes the nodes that stand for a product taken apart."""

    def __init__(self, net: Net, how: Apart) -> None:
        self._net, self._how, self._names = net, how, Names(net)
        self._made: list[NodeProto] = []
        self.consts: dict[str, Array] = {}

    def nodes(self) -> list[NodeProto]:
        """Return them, in order."""
        product = self._net.nodes[self._how.product]
        ends = np.cumsum([0, *self._how.lengths])
        found = [
            self._product(product, part, name, (int(ends[part]), int(ends[part + 1])))
            for part, name in enumerate(self._net.nodes[self._how.concat].input)
            if self._how.lengths[part]
        ]
        if self._how.summed:
            while len(found) > 1:
                last = len(found) == 2
                total = str(product.output[0]) if last else self._names.fresh(f"{product.output[0]}_sum")
                self._add("Add", found[:2], total, product)
                found[:2] = [total]
        else:
            rank = len(self._net.shapes[product.output[0]])
            self._add("Concat", found, str(product.output[0]), product, axis=rank - 1)
        return self._made

    def _add(self, op: str, inputs: Sequence[str], output: str, like: NodeProto, **more: Any) -> None:
        node = helper.make_node(op, list(inputs), [output], self._names.fresh(f"{like.name}_{op}"), **more)
        node.metadata_props.extend(like.metadata_props)
        self._made.append(node)

    def _product(self, product: NodeProto, part: int, name: str, ends: tuple[int, int]) -> str:
        """Return what the first operand, or what belongs to a part of it, makes of the part."""
        for step, axis, shape in self._how.steps:
            name = self._moved(self._net.nodes[step], name, part, axis, shape)
        first = str(product.input[0])
        if self._how.summed:
            cut = self._names.fresh(f"{first}_part")
            rank = len(self._net.shapes[first])
            bounds = [self._const(first, value) for value in ([ends[0]], [ends[1]], [rank - 1])]
            self._add("Slice", [first, *bounds], cut, product)
            first = cut
        out = self._names.fresh(f"{product.output[0]}_part")
        made = remake(product, [first, name], [out])
        made.name = self._names.fresh(f"{product.name}_part")
        self._made.append(made)
        return out

    def _moved(self, node: NodeProto, name: str, part: int, axis: int, shape: tuple[int, ...]) -> str:
        out = self._names.fresh(f"{node.output[0]}_part")
        if node.op_type in RESHAPES:
            whole = sum(self._how.lengths)
            length = self._how.lengths[part] * shape[axis] // whole
            sizes = [length if i == axis else d for i, d in enumerate(shape)]
            self._add("Reshape", [name, self._const(node.name, sizes)], out, node)
            return out
        made = remake(node, [name, *node.input[1:]], [out])
        made.name = self._names.fresh(f"{node.name}_part")
        self._made.append(made)
        return out

    def _const(self, near: str, values: Sequence[int]) -> str:
        name = self._names.fresh(f"{near}_parts")
        self.consts[name] = np.array(values, np.int64)
        return name


def products_apart(net: Net, concats: Iterator[int]) -> Iterator[tuple[str, str]]:
    """Yield the results of those Concats whose product can be taken apart, with the product's name."""
    for index in dict.fromkeys(concats):
        found = find_apart(net, index) if net.nodes[index].op_type == "Concat" else None
        if found is not None:
            yield str(net.nodes[index].output[0]), net.nodes[found.product].name
