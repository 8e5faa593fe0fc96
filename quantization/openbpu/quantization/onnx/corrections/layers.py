"""The products of a quantized net whose weights are constants: what corrections may change of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from openbpu.arch.arrays import Array
from openbpu.arch.onnx_ops import PRODUCTS
from openbpu.quantization.onnx.net import Net


@dataclass(frozen=True, slots=True)
class Layer:
    """A product: the index of its node, and of the node that dequantizes its weights.

    `codes`, `scale`: names of its weights' integers, which nobody else reads, and of their scale. `axis`: of
    the output channels in the weights. `source`: the activation that it reads.
    """

    index: int
    dequantize: int
    codes: str
    scale: str
    axis: int
    source: str


@dataclass(frozen=True, slots=True)
class Bias:
    """A constant that is added to every output channel of a product.

    `out`: the tensor with the bias in it, whose node has the index `index`, and channels along `axis`.
    `matched`: the same tensor of the float net. `values`: the name of the constant's integers, in steps of
    the constant named `step`; of floats where `step` is "".
    """

    index: int
    out: str
    matched: str
    axis: int
    values: str
    step: str


def layers(net: Net) -> Iterator[Layer]:
    """Yield the products whose weights are integers that nobody else reads, in the order of the net."""
    makers, readers = net.producers(), net.consumers()
    for index, node in enumerate(net.nodes):
        if node.op_type not in PRODUCTS or node.input[0] in net.consts or node.input[1] not in makers:
            continue
        place = makers[node.input[1]]
        weights = net.nodes[place]
        if weights.op_type != "DequantizeLinear" or weights.input[0] not in net.consts:
            continue
        alone = len(readers[node.input[1]]) == len(readers[weights.input[0]]) == 1
        scale = net.consts.get(weights.input[1])
        axis = output_axis(node, net.consts[weights.input[0]].ndim)
        if alone and scale is not None and scale.dtype == np.float32 and scale.ndim <= 1 and axis is not None:
            yield Layer(index, place, weights.input[0], weights.input[1], axis, node.input[0])


def float_weights(net: Net, float_net: Net) -> list[Array | None]:
    """Return the float weights of each of `layers(net)`; None where the model brought integers itself."""
    twins = dict(_matched(net, float_net))
    found = [twins[layer.index].input[1] if layer.index in twins else "" for layer in layers(net)]
    return [float_net.consts.get(name) for name in found]


def output_axis(node: NodeProto, rank: int) -> int | None:
    """Return the axis of the output channels in the weights of a product; None where there is none."""
    if rank < 2 or (node.op_type == "MatMul" and rank > 2):
        return None
    given = {item.name: item.i for item in node.attribute}
    if node.op_type == "Gemm":
        return None if given.get("transA") else 0 if given.get("transB") else 1
    return 0 if node.op_type == "Conv" else 1


def biases(net: Net, float_net: Net) -> Iterator[Bias]:
    """Yield the biases of products, in the order of the net; none whose codes the model brought itself."""
    names = {index: twin.output[0] for index, twin in _matched(net, float_net)}
    makers, readers = net.producers(), net.consumers()
    for index, node in enumerate(net.nodes):
        if node.op_type not in PRODUCTS or index not in names:
            continue
        if len(node.input) > 2:
            at, bias = index, node.input[2]
        elif node.op_type == "MatMul" and len(readers.get(node.output[0], [])) == 1:
            at = readers[node.output[0]][0]
            others = [name for name in net.nodes[at].input if name != node.output[0]]
            if net.nodes[at].op_type != "Add" or len(others) != 1 or at not in names:
                continue
            bias = others[0]
        else:
            continue
        found = _constant(net, bias, makers)
        if found is None or (found[1] and found[0] in float_net.consts):
            continue
        if len(readers[bias]) == len(readers[found[0]]) == 1:
            axis = 1 if node.op_type.startswith("Conv") else -1
            yield Bias(at, net.nodes[at].output[0], names[at], axis, *found)


def _constant(net: Net, name: str, makers: Mapping[str, int]) -> tuple[str, str] | None:
    """Return the constant behind `name` and that of its step ("": it is float); None for what is computed."""
    array = net.consts.get(name)
    if array is not None:
        return (name, "") if array.dtype == np.float32 and _is_vector(array) else None
    if name not in makers:
        return None
    node = net.nodes[makers[name]]
    stored = net.consts.get(node.input[0])
    if node.op_type != "DequantizeLinear" or stored is None or stored.dtype != np.int32:
        return None
    return (node.input[0], node.input[1]) if node.input[1] in net.consts and _is_vector(stored) else None


def _is_vector(array: Array) -> bool:
    return array.ndim >= 1 and array.size == array.shape[-1] and array.size > 0


def _matched(net: Net, float_net: Net) -> Iterator[tuple[int, NodeProto]]:
    """Yield the nodes of a quantized net that the float net has too, with those."""
    position = 0
    for index, node in enumerate(net.nodes):
        if position == len(float_net.nodes):
            return
        twin = float_net.nodes[position]
        if (node.name, node.op_type) == (twin.name, twin.op_type):
            yield index, twin
            position += 1
