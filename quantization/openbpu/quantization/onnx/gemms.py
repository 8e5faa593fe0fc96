"""A Gemm that is more than a linear layer, as the operators that it is: each of them gets its own scale.

Gemm(a, b, C)      b computed, or C other than one value per column      → Add(MatMul(a, b), C)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from openbpu.arch.arrays import Array
from openbpu.quantization.onnx.net import Names, Net
from openbpu.quantization.onnx.nodes import attribute


def gemm_as_matmul(net: Net) -> Net:
    """Turn every such Gemm into MatMul, with Transpose, Mul and Add where its attributes ask for them."""
    names, consts, nodes = Names(net), dict[str, Array](), list[NodeProto]()
    for node in net.nodes:
        known = node.op_type == "Gemm" and node.domain in {"", "ai.onnx"}
        if not known or _is_layer(node, net) or not net.is_float(node.output[0]):
            nodes.append(node)
        else:
            nodes.extend(_Unfolding(node, net, names, consts).operators())
    return net.with_nodes(nodes, consts)


def _is_layer(node: NodeProto, net: Net) -> bool:
    """Whether a Gemm has constant weights and, if anything is added, at most one value per column."""
    if len(node.input) < 3 or not node.input[2]:
        return node.input[1] in net.consts
    bias = net.consts.get(node.input[2])
    if bias is None or node.input[1] not in net.consts:
        return False
    return bias.ndim < 2 or bool((bias == bias[:1]).all())


@dataclass(slots=True)
class _Unfolding:
    """One Gemm on the way to its operators; the product keeps its name, the last one makes its result."""

    node: NodeProto
    net: Net
    names: Names
    consts: dict[str, Array]
    made: list[NodeProto] = field(default_factory=list)

    def operators(self) -> list[NodeProto]:
        """Return them in order."""
        a, b, *rest = self.node.input
        alpha, beta = (float(attribute(self.node, name, 1.0)) for name in ("alpha", "beta"))
        a = self.turned(a) if attribute(self.node, "transA", 0) else a
        b = self.turned(b) if attribute(self.node, "transB", 0) else b
        folds = b in self.net.consts or b in self.consts
        y = self.op("MatMul", a, self.scaled(b, alpha) if folds else b, name=self.node.name)
        y = y if folds else self.scaled(y, alpha)
        if rest and rest[0]:
            y = self.op("Add", y, self.scaled(rest[0], beta))
        self.made[-1].output[0] = self.node.output[0]
        return self.made

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Append an operator; returns what it makes."""
        out = self.names.fresh(f"{self.node.output[0]}_{kind}")
        node = helper.make_node(kind, inputs, [out], name, **attributes)
        node.metadata_props.extend(self.node.metadata_props)
        self.made.append(node)
        return out

    def turned(self, name: str) -> str:
        """The transpose of a matrix."""
        array = self.net.consts.get(name)
        if array is None:
            return self.op("Transpose", name, perm=[1, 0])
        return self.constant(f"{name}_transposed", array.T)

    def scaled(self, name: str, factor: float) -> str:
        """A tensor times alpha or beta."""
        array = self.consts.get(name, self.net.consts.get(name))
        if factor == 1.0:
            return name
        if array is None:
            return self.op("Mul", name, self.constant(f"{name}_factor", np.array(factor)))
        return self.constant(f"{name}_scaled", array * np.float32(factor))

    def constant(self, stem: str, array: Array) -> str:
        """A new constant of float32; returns its name."""
        name = self.names.fresh(stem)
        self.consts[name] = np.ascontiguousarray(array, np.float32).reshape(array.shape)
        return name
