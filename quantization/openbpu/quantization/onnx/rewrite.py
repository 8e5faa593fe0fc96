"""Rewrites that give the BPU fewer and better operators; none changes what the float model computes.

Sum(a, b, c)                 → Add(Add(a, b), c)
Where(c, [½, ½, …], x)       → Where(c, ½, x)           (a tensor of one value is a number: it joins a unit)
Div(x, constant tensor)      → Mul(x, 1 / constant)     (a scalar divisor stays: it joins a unit)
MatMul(x: [M, K], W) + bias  → Gemm(x, W, bias)
Gemm(alpha, beta)            → Gemm with alpha in W and beta in the bias
BatchNormalization, x · γ[C] → depthwise 1×1 Conv       (which has a scale per channel)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from onnx import ModelProto, NodeProto, helper

from openbpu.arch.arrays import Array
from openbpu.arch.uniform import BROADCAST, is_spare, lone_value
from openbpu.quantization.onnx.affine import Affine, channel_affine, channel_vector
from openbpu.quantization.onnx.inference import infer, made_type
from openbpu.quantization.onnx.net import Names, Net
from openbpu.quantization.onnx.nodes import attribute, remake


def split_sums(net: Net) -> Net:
    """Turn every Sum into Adds."""
    names = Names(net)
    return net.with_nodes(made for node in net.nodes for made in _adds(node, names))


def _adds(node: NodeProto, names: Names) -> Iterator[NodeProto]:
    if node.op_type != "Sum" or len(node.input) < 2:
        yield node
        return
    total = node.input[0]
    for number, term in enumerate(node.input[1:], 1):
        last = number == len(node.input) - 1
        out = node.output[0] if last else names.fresh(f"{node.output[0]}_partial")
        made = remake(node, [total, term], [out])
        made.op_type = "Add"
        made.name = node.name if last else names.fresh(f"{node.name}_partial")
        yield made
        total = out


def uniform_to_scalar(net: Net) -> Net:
    """Turn constant operands whose elements are all equal into scalars where they do not shape the result."""
    names, consts, nodes = Names(net), dict[str, Array](), []
    scalars: dict[str, str] = {}
    for node in net.nodes:
        inputs = list(node.input)
        known = node.op_type in BROADCAST and node.domain in {"", "ai.onnx"}
        for index in range(node.op_type == "Where", len(inputs) if known else 0):
            value = _lone_operand(net, inputs, index, consts)
            if value is not None:
                if inputs[index] not in scalars:
                    scalars[inputs[index]] = names.fresh(f"{inputs[index]}_scalar")
                inputs[index] = scalars[inputs[index]]
                consts[inputs[index]] = value
        nodes.append(node if inputs == list(node.input) else remake(node, inputs))
    return net.with_nodes(nodes, consts)


def _lone_operand(net: Net, inputs: list[str], index: int, made: Mapping[str, Array]) -> Array | None:
    """Return the value of an operand that may be a scalar, of shape (1,); None if it is none."""
    array = net.consts.get(inputs[index])
    value = None if array is None or array.size == 1 else lone_value(array)
    shapes = [
        constant.shape if (constant := made.get(n, net.consts.get(n))) is not None else net.shapes.get(n)
        for n in inputs
    ]
    if array is None or value is None or any(shape is None for shape in shapes):
        return None
    others = [shape for i, shape in enumerate(shapes) if i != index and shape is not None]
    return value.reshape(1) if is_spare(array.shape, others) else None


def multiply_instead_of_divide(net: Net) -> Net:
    """Turn a division by a constant tensor into a multiplication."""
    names, consts, nodes = Names(net), dict[str, Array](), []
    for node in net.nodes:
        divisor = net.consts.get(node.input[1]) if node.op_type == "Div" else None
        if divisor is None or divisor.dtype != np.float32 or divisor.size == 1 or not divisor.all():
            nodes.append(node)
            continue
        name = names.fresh(f"{node.input[1]}_reciprocal")
        consts[name] = (1.0 / divisor.astype(np.float64)).astype(np.float32)
        made = remake(node, [node.input[0], name])
        made.op_type = "Mul"
        nodes.append(made)
    return net.with_nodes(nodes, consts)


def matmul_bias_to_gemm(net: Net) -> Net:
    """Turn a two-dimensional MatMul with constant weights and the Add of its bias into one Gemm."""
    readers, nodes = net.consumers(), list(net.nodes)
    dropped = set()
    for index, node in enumerate(net.nodes):
        if node.op_type != "MatMul" or len(net.shapes.get(node.input[0]) or ()) != 2:
            continue
        weight, users = net.consts.get(node.input[1]), readers.get(node.output[0], [])
        if weight is None or weight.ndim != 2 or len(users) != 1 or node.output[0] in net.outputs:
            continue
        add = net.nodes[users[0]]
        bias = [name for name in add.input if name in net.consts]
        if (
            add.op_type != "Add"
            or len(bias) != 1
            or channel_vector(net.consts[bias[0]], 2, 1, weight.shape[1]) is None
        ):
            continue
        made = remake(node, [*node.input, bias[0]], add.output)
        made.op_type = "Gemm"
        nodes[index] = made
        dropped.add(users[0])
    return net.with_nodes(node for index, node in enumerate(nodes) if index not in dropped)


def fold_gemm_factors(net: Net) -> Net:
    """Multiply alpha into the constant weights of Gemm and beta into its constant bias."""
    names, consts, nodes = Names(net), dict[str, Array](), []
    for node in net.nodes:
        made = node
        for factor, position in (("alpha", 1), ("beta", 2)):
            value = attribute(made, factor, 1.0) if node.op_type == "Gemm" else 1.0
            array = net.consts.get(made.input[position]) if len(made.input) > position else None
            if value == 1.0 or array is None:
                continue
            name = names.fresh(f"{made.input[position]}_{factor}")
            consts[name] = (array * np.float32(value)).astype(np.float32)
            made = remake(made, [*made.input[:position], name, *made.input[position + 1 :]])
            kept = [item for item in made.attribute if item.name != factor]
            del made.attribute[:]
            made.attribute.extend(kept)
        nodes.append(made)
    return net.with_nodes(nodes, consts)


def affine_to_depthwise(net: Net) -> Net:
    """Turn what scales and shifts channels behind no MAC into a depthwise 1×1 Conv (1-D or 2-D).

    Of a chain only the first becomes a Conv: the others are for `fold_affine`.
    """
    names, consts, nodes = Names(net), dict[str, Array](), []
    readers, absorbing = net.consumers(), set[str]()
    for node in net.nodes:
        source = next((name for name in node.input if net.is_live(name)), "")
        affine = None if source in absorbing else _own_affine(node, source, net)
        if affine is None:
            nodes.append(node)
            continue
        scale, shift = affine
        (out,) = node.output
        if len(readers.get(out, [])) == 1 and out not in net.outputs:
            absorbing.add(out)
        inputs = [source, names.fresh(f"{out}_weight"), names.fresh(f"{out}_bias")]
        consts[inputs[1]] = scale.astype(np.float32).reshape(-1, *(1,) * (len(net.shapes[source]) - 1))
        consts[inputs[2]] = shift.astype(np.float32)
        made = helper.make_node("Conv", inputs, [out], node.name, group=scale.size)
        made.metadata_props.extend(node.metadata_props)
        nodes.append(made)
    return net.with_nodes(nodes, consts)


def _own_affine(node: NodeProto, source: str, net: Net) -> Affine | None:
    """Return the scale and shift that `node` applies to axis 1 of (N, C, L) to (N, C, D, H, W), if any."""
    shape = net.shapes.get(source) or ()
    channels = shape[1] if len(shape) in {3, 4, 5} else None
    if not isinstance(channels, int):
        return None
    if node.op_type != "BatchNormalization" and all(
        net.consts[n].size == 1 for n in node.input if n in net.consts
    ):
        return None
    return channel_affine(node, source, 1, channels, net)


def name_nodes(net: Net) -> Net:
    """Give every node a name; reports and refusals show it."""
    names, nodes = Names(net), []
    for node in net.nodes:
        if node.name:
            nodes.append(node)
            continue
        made = remake(node)
        made.name = names.fresh(f"{node.op_type}_{node.output[0]}")
        nodes.append(made)
    return net.with_nodes(nodes)


def declare_outputs(net: Net) -> Net:
    """Declare the outputs with the inferred shapes: static where the exporter left symbols or nothing."""
    header = ModelProto()
    header.CopyFrom(net.header)
    for value in header.graph.output:
        shape = net.shapes.get(value.name)
        if shape is not None and value.type.HasField("tensor_type"):
            kind = value.type.tensor_type.elem_type
            value.type.CopyFrom(helper.make_tensor_type_proto(kind, shape))
    return replace(net, header=header)


def declare_made_types(net: Net) -> Net:
    """Give outputs the element types that their nodes make, where a model declares others.

    ONNX Runtime does not load such a model, and an ArgMax that is called float would get a Quantize.
    """
    header, makers = ModelProto(), net.producers()
    header.CopyFrom(net.header)
    for value in header.graph.output:
        made = made_type(net, net.nodes[makers[value.name]], value.name) if value.name in makers else 0
        if made and value.type.HasField("tensor_type"):
            value.type.tensor_type.elem_type = made
    return net if header == net.header else infer(replace(net, header=header))


def reinfer(net: Net) -> Net:
    """Infer types and shapes again after nodes were replaced."""
    return infer(net)
