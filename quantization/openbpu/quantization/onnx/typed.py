"""What ONNX Runtime needs by default of the quantization that a model brings along, from opset 21 on.

There Quantize has a type of its own, and what ONNX Runtime puts in itself is refused by it. Values stay.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

from openbpu.arch.arrays import Array
from openbpu.quantization.onnx.given import is_dequantize, is_quantize, keeps
from openbpu.quantization.onnx.net import Names, Net
from openbpu.quantization.onnx.nodes import remake, rename_reads
from openbpu.quantization.onnx.opset import OPSET_INT16
from openbpu.quantization.onnx.sizes import settled

_TYPED = OPSET_INT16


def widen_given_biases(net: Net) -> Net:
    """Return `net` with biases of codes that an Add adds to a MatMul of the rank of the sum.

    Of a MatMul and a vector ONNX Runtime makes a Gemm between Reshapes, with a pair behind the first.
    """
    if net.opset < _TYPED:
        return net
    makers, names = net.producers(), Names(net)
    consts, nodes = dict[str, Array](), list[NodeProto]()
    for node in net.nodes:
        inputs = list(node.input)
        products = [n for n in inputs if n in makers and net.nodes[makers[n]].op_type == "MatMul"]
        for position, name in enumerate(inputs if node.op_type == "Add" and products else []):
            end = net.nodes[makers[name]] if name in makers else None
            rank = len(net.shapes.get(products[0], ()))
            if end is None or not is_dequantize(end) or end.input[0] not in net.consts:
                continue
            codes = net.consts[end.input[0]]
            if codes.ndim == 1 and rank > 1:
                wide = names.fresh(f"{end.input[0]}_of_rank_{rank}")
                consts[wide] = codes.reshape((1,) * (rank - 1) + codes.shape)
                nodes.append(_of_rank(end, wide, rank, names, net))
                inputs[position] = nodes[-1].output[0]
        nodes.append(node if inputs == list(node.input) else remake(node, inputs))
    return net.with_nodes(nodes, consts) if consts else net


def _of_rank(end: NodeProto, codes: str, rank: int, names: Names, net: Net) -> NodeProto:
    made = remake(end, [codes, *end.input[1:]], [names.fresh(f"{end.output[0]}_of_rank_{rank}")])
    made.name = names.fresh(f"{end.name}_of_rank_{rank}")
    kept = [a for a in made.attribute if a.name != "axis"]
    del made.attribute[:]
    made.attribute.extend(kept)
    scale = net.consts.get(end.input[1])
    if scale is not None and np.ndim(scale) == 1:
        made.attribute.append(helper.make_attribute("axis", rank - 1))
    return made


def pair_what_moves(net: Net) -> Net:
    """Return `net` with the pair of a tensor also behind what moves it; no value changes.

    Dequantize → Transpose → MatMul      becomes      Dequantize → Transpose → Quantize → Dequantize → MatMul

    ONNX Runtime puts one there itself, and refuses that at opset 21, where Quantize has a type of its own.
    """
    if net.opset < _TYPED:
        return net
    names, nodes = Names(net), list[NodeProto]()
    constants, readers = settled(net), net.consumers()
    ends: dict[str, NodeProto] = {}
    renamed: dict[str, str] = {}
    for node in net.nodes:
        made = rename_reads(node, renamed)
        nodes.append(made)
        if is_dequantize(node) and _is_whole(node, net) and node.output[0] not in constants:
            ends[node.output[0]] = node
        elif node.input and made.input[0] in ends and keeps(node, net, constants):
            for name in node.output:
                if name in net.outputs or all(is_quantize(net.nodes[i]) for i in readers.get(name, ())):
                    continue
                pair = _pair_like(ends[made.input[0]], name, names)
                nodes += pair
                renamed[name] = pair[1].output[0]
                ends[renamed[name]] = pair[1]
    return net.with_nodes(nodes) if renamed else net


def _is_whole(node: NodeProto, net: Net) -> bool:
    """Whether a Dequantize has one constant scale and a constant zero point."""
    parameters = [net.consts.get(name) for name in node.input[1:3]]
    return len(parameters) == 2 and all(array is not None and array.size == 1 for array in parameters)


def _pair_like(end: NodeProto, name: str, names: Names) -> tuple[NodeProto, NodeProto]:
    """Return a pair behind tensor `name` with the scale and zero point of a Dequantize."""
    q, out = names.fresh(f"{name}_QuantizeLinear_Output"), names.fresh(f"{name}_DequantizeLinear_Output")
    made = [
        helper.make_node(op, [read, *end.input[1:]], [write], names.fresh(f"{name}_{op}"), domain=end.domain)
        for op, read, write in (("QuantizeLinear", name, q), ("DequantizeLinear", q, out))
    ]
    return made[0], made[1]
