"""Einsum of two operands is a matrix product between transposes and reshapes.

"bchw,cd->bdhw"    becomes    Transpose to bhwc → Reshape [b·h·w, c] → MatMul [c, d] → … → bdhw
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from openbpu.arch.arrays import Array
from openbpu.quantization.einsum import Product, parsed
from openbpu.quantization.onnx.net import Names, Net
from openbpu.quantization.onnx.nodes import attribute, name_of


def einsum_as_matmul(net: Net) -> Net:
    """Return the net with a MatMul for every Einsum that is a product of two operands of known sizes."""
    names, consts, nodes = Names(net), dict[str, Array](), list[NodeProto]()
    for node in net.nodes:
        nodes.extend(_written(net, node, names, consts))
    return net.with_nodes(nodes, consts)


def _written(net: Net, node: NodeProto, names: Names, consts: dict[str, Array]) -> Iterator[NodeProto]:
    plan = _plan(net, node)
    sizes = None if plan is None else _sizes(net, node)
    if plan is None or sizes is None:
        yield node
        return
    left, right = node.input if plan.left == _letters(node)[0] else reversed(node.input)
    stem = name_of(node)
    maker = _Maker(net, names, consts, sizes, stem)
    a, made = maker.operand(left, plan.left, (plan.batch, plan.rows, plan.summed))
    yield from made
    b, made = maker.operand(right, plan.right, (plan.batch, plan.summed, plan.columns))
    yield from made
    product = helper.make_node("MatMul", [a, b], [names.fresh(f"{node.output[0]}_product")], stem)
    product.metadata_props.extend(node.metadata_props)
    yield product
    yield from maker.result(product.output[0], plan, node.output[0])


def _letters(node: NodeProto) -> tuple[str, str, str]:
    sides, _, out = attribute(node, "equation", "").replace(" ", "").partition("->")
    left, _, right = sides.partition(",")
    return left, right, out


def _plan(net: Net, node: NodeProto) -> Product | None:
    """The product that a node is; a constant is a weight, which stands on the right."""
    if node.op_type != "Einsum" or node.domain or len(node.input) != 2:
        return None
    equation = attribute(node, "equation", "")
    left, right, out = _letters(node)
    return parsed(f"{right},{left}->{out}" if "->" in equation and node.input[0] in net.consts else equation)


def _sizes(net: Net, node: NodeProto) -> Mapping[str, int] | None:
    """The size of every letter; None where one is not known, or 1 on one side and broadcast."""
    sizes: dict[str, int] = {}
    for name, letters in zip(node.input, _letters(node)[:2], strict=True):
        shape = net.consts[name].shape if name in net.consts else net.shapes.get(name, ())
        if len(shape) != len(letters) or not net.is_float(name):
            return None
        for letter, size in zip(letters, shape, strict=True):
            if not isinstance(size, int) or sizes.setdefault(letter, size) != size:
                return None
    return sizes


@dataclass(frozen=True, slots=True)
class _Maker:
    net: Net
    names: Names
    consts: dict[str, Array]
    sizes: Mapping[str, int]
    stem: str

    def operand(self, name: str, letters: str, groups: tuple[str, str, str]) -> tuple[str, list[NodeProto]]:
        """An operand as [batch…, group, group], and the nodes that make it; a constant is turned at once."""
        perm = [letters.index(c) for c in "".join(groups)]
        shape = [*(self.sizes[c] for c in groups[0]), *(self._size(g) for g in groups[1:])]
        if name in self.net.consts:
            made = self.names.fresh(f"{name}_matrix")
            self.consts[made] = np.ascontiguousarray(self.net.consts[name].transpose(perm).reshape(shape))
            return made, []
        nodes = []
        if perm != sorted(perm):
            nodes.append(self._node("Transpose", [name], perm=perm))
            name = nodes[-1].output[0]
        if len(shape) != len(perm):
            nodes.append(self._reshape(name, shape))
            name = nodes[-1].output[0]
        return name, nodes

    def result(self, name: str, plan: Product, target: str) -> list[NodeProto]:
        """Nodes from [batch…, rows, columns] to the result's own axes."""
        letters = plan.batch + plan.rows + plan.columns
        shape = self._reshape(name, [self.sizes[c] for c in letters])
        turn = self._node("Transpose", [shape.output[0]], perm=[letters.index(c) for c in plan.out])
        turn.output[0] = target
        return [shape, turn]

    def _size(self, letters: str) -> int:
        return math.prod(self.sizes[c] for c in letters)

    def _reshape(self, name: str, shape: list[int]) -> NodeProto:
        sizes = self.names.fresh(f"{name}_shape")
        self.consts[sizes] = np.array(shape, np.int64)
        return self._node("Reshape", [name, sizes])

    def _node(self, op: str, inputs: list[str], **attributes: Any) -> NodeProto:
        out = self.names.fresh(f"{self.stem}_{op}")
        return helper.make_node(op, inputs, [out], self.names.fresh(out), **attributes)
