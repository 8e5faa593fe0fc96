"""Which tensors are results: no product reads them any more, what follows is arithmetic on them.

    photo → Conv → Relu → Conv → Transpose → Concat → Mul → Exp → boxes
                               └────────────── the tail ──────────────┘
    photo → Conv → Relu → GlobalAveragePool → Gemm → logits          no tail: the product is the output

A product sums many values, and with them the errors of their int8 steps, which have either sign. Behind the
last product a step of int8 is an error of the result.
"""

from __future__ import annotations

from collections.abc import Sequence

from openbpu.quantization.onnx.classes import Kind
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.nodes import reads


def find_tail(net: Net, kinds: Sequence[Kind]) -> frozenset[str]:
    """Return the tensors that products (Conv, ConvTranspose, Gemm, MatMul) lead to and none depends on."""
    behind, ahead = set[str](), set[str]()
    for node, kind in zip(net.nodes, kinds, strict=True):
        if kind is Kind.MAC or not behind.isdisjoint(reads(node)):
            behind.update(node.output)
    for node, kind in zip(reversed(net.nodes), reversed(kinds), strict=True):
        if kind is Kind.MAC or not ahead.isdisjoint(node.output):
            ahead.update(reads(node))
    return frozenset(behind - ahead)
