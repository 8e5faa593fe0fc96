"""Products whose scales follow from the data of every run become float ones on the codes of their weights.

x → DynamicQuantizeLinear → xq, s, z           w → Dequantize(sw, zw) ┐
MatMulInteger(xq, w, z, zw) → Cast → Mul(s · sw)   becomes   MatMul(x, ·)      (ConvInteger → Conv)
x → DynamicQuantizeLinear → Dequantize → MatMul    becomes   x → MatMul

The BPU has constant scales only: calibration gives `x` one, as it does any other tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper

from openbpu.arch.arrays import Array
from openbpu.arch.errors import QuantizationError, must
from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.inference import infer
from openbpu.quantization.onnx.net import Names, Net
from openbpu.quantization.onnx.nodes import reads, remake, rename_reads, subgraphs

_PRODUCTS = {"MatMulInteger": "MatMul", "ConvInteger": "Conv", "DynamicQuantizeMatMul": "MatMul"}
_PRODUCTS["MatMulIntegerToFloat"] = "MatMul"

DYNAMIC = ("DynamicQuantize", "ConvInteger", "MatMulInteger")
"""How the names of operators begin whose scales follow from the data of every run."""


@dataclass(frozen=True, slots=True)
class _Product:
    """A float product in the place of a dynamic one. x: what was quantized · out: what it makes in the end.

    weight, zero: constants, codes ("" for no zero point) · scale: of the weight · bias: "" for none.
    """

    x: str
    weight: str
    scale: Array
    zero: str
    bias: str
    out: str


def with_static_scales(net: Net) -> Net:
    """Return `net` without dynamic scales; raises QuantizationError, naming the node, where one stays."""
    makers, readers = net.producers(), net.consumers()
    found: dict[str, tuple[NodeProto, _Product]] = {}
    for node in net.nodes:
        product = _product(net, node, makers, readers) if node.op_type in _PRODUCTS else None
        if product is not None:
            found[product.out] = node, product
    net = _without_dynamic_pairs(net, makers)
    if found:
        net = infer(_without_unread(_replaced(net, found)))
    for node in _dynamic(net.nodes):
        where, spoken = f"model '{net.header.graph.name}'", f"{node.op_type} '{node.name or node.output[0]}'"
        fix = "the BPU has no scales but constant ones; quantize the float model it was made from"
        raise QuantizationError(
            must(where, "its quantized part", "of constant scales", f"dynamic ({spoken})", fix)
        )
    return net


def _without_dynamic_pairs(net: Net, makers: Mapping[str, int]) -> Net:
    """Return `net` with readers of what is quantized and dequantized by dynamic scales reading the tensor."""
    alias: dict[str, str] = {}
    for node in net.nodes:
        quantizer = net.nodes[makers[node.input[0]]] if node.input and node.input[0] in makers else None
        if (
            node.op_type == "DequantizeLinear"
            and quantizer is not None
            and quantizer.op_type == "DynamicQuantizeLinear"
            and node.input[1] == quantizer.output[1]
            and node.output[0] not in net.outputs
        ):
            alias[node.output[0]] = quantizer.input[0]
    if not alias:
        return net
    return infer(_without_unread(net.with_nodes(rename_reads(node, alias) for node in net.nodes)))


def dynamic_findings(net: Net) -> tuple[Finding, ...]:
    """Return what there is to say of a net that `with_static_scales` changes."""
    found = [node for node in net.nodes if node.op_type.startswith(DYNAMIC)]
    if not found:
        return ()
    first, more = found[0].name or found[0].output[0], f" and {len(found) - 1} more" if len(found) > 1 else ""
    text = (
        f"'{first}'{more} took scales from the data of every run; the BPU has constant ones: "
        "they come from calibration"
    )
    return (Finding("static scales", "", found[0].name, text),)


def _dynamic(nodes: Sequence[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        if node.op_type.startswith(DYNAMIC):
            yield node
        for graph in subgraphs(node):
            yield from _dynamic(graph.node)


def _product(
    net: Net, node: NodeProto, makers: Mapping[str, int], readers: Mapping[str, Sequence[int]]
) -> _Product | None:
    """Return what a node computes; None where its weight is none or its scale is not applied right behind."""
    inputs = [*node.input, *[""] * 7]
    if node.op_type == "DynamicQuantizeMatMul":
        x, weight, scale, zero, bias = inputs[:5]
        return _checked(net, node, (x, weight, scale, zero, bias), node.output[0])
    quantizer = makers.get(inputs[0], -1)
    if quantizer < 0 or net.nodes[quantizer].op_type != "DynamicQuantizeLinear":
        return None
    x, step = net.nodes[quantizer].input[0], net.nodes[quantizer].output[1]
    if node.op_type == "MatMulIntegerToFloat":
        ours = inputs[2] == step
        found = (x, inputs[1], inputs[3], inputs[5], inputs[6])
        return _checked(net, node, found, node.output[0]) if ours else None
    scaled = _scaled(net, node.output[0], step, makers, readers)
    return scaled and _made(net, node, (x, inputs[1], inputs[3], ""), *scaled)


def _scaled(
    net: Net, name: str, step: str, makers: Mapping[str, int], readers: Mapping[str, Sequence[int]]
) -> tuple[Array, str] | None:
    """Return the constant factor of Cast → Mul(step · constant), in any order, and what that makes."""
    factor: Array = np.ones((), np.float32)
    steps, ends = 0, net.outputs
    while len(readers.get(name, ())) == 1 and name not in ends and steps < 2:
        node = net.nodes[readers[name][0]]
        if node.op_type == "Mul":
            other = node.input[1] if node.input[0] == name else node.input[0]
            for part in _factors(net, other, step, makers):
                if part is None:
                    return None
                steps, factor = (steps + 1, factor) if isinstance(part, str) else (steps, factor * part)
        elif node.op_type != "Cast":
            break
        name = node.output[0]
    return (factor, name) if steps == 1 else None


def _factors(net: Net, name: str, step: str, makers: Mapping[str, int]) -> Iterator[Array | str | None]:
    """Yield the constants that a factor is made of, `step` itself as its name, None for anything else."""
    if name in net.consts or name == step:
        yield net.consts.get(name, step)
        return
    node = net.nodes[makers[name]] if name in makers else None
    if node is None or node.op_type != "Mul":
        yield None
        return
    for part in node.input:
        yield net.consts.get(part, step if part == step else None)


def _checked(net: Net, node: NodeProto, found: tuple[str, str, str, str, str], out: str) -> _Product | None:
    x, weight, scale, zero, bias = found
    factor = net.consts.get(scale)
    return None if factor is None else _made(net, node, (x, weight, zero, bias), factor, out)


def _made(
    net: Net, node: NodeProto, found: tuple[str, str, str, str], factor: Array, out: str
) -> _Product | None:
    x, weight, zero, bias = found
    codes = net.consts.get(weight)
    if codes is None or (zero and zero not in net.consts):
        return None
    channels = codes.shape[0 if _PRODUCTS[node.op_type] == "Conv" else -1]
    if factor.size not in {1, channels}:
        return None
    return _Product(x, weight, factor.astype(np.float32), zero, bias, out)


def _replaced(net: Net, found: Mapping[str, tuple[NodeProto, _Product]]) -> Net:
    names, consts, nodes = Names(net), dict[str, Array](), list[NodeProto]()
    for node in net.nodes:
        if node.output[0] not in found:
            nodes.append(node)
            continue
        dynamic, product = found[node.output[0]]
        nodes += _float_product(net, dynamic, product, names, consts)
    return net.with_nodes(nodes, consts)


def _float_product(
    net: Net, node: NodeProto, product: _Product, names: Names, consts: dict[str, Array]
) -> Iterator[NodeProto]:
    """Yield the Dequantize of the weight, the product, and the Add of its bias."""
    conv, codes = _PRODUCTS[node.op_type] == "Conv", net.consts[product.weight]
    zero = net.consts[product.zero] if product.zero else np.zeros((), codes.dtype)
    size = max(product.scale.size, zero.size)
    shape = () if size == 1 else (size,)
    scale, point = names.fresh(f"{product.weight}_scale"), names.fresh(f"{product.weight}_zero_point")
    consts[scale] = np.broadcast_to(product.scale.reshape(-1), (size,)).reshape(shape).copy()
    consts[point] = np.broadcast_to(zero.reshape(-1), (size,)).reshape(shape).astype(codes.dtype)
    weight = names.fresh(f"{product.weight}_DequantizeLinear_Output")
    made = names.fresh(f"{product.weight}_DequantizeLinear")
    stored = helper.make_node("DequantizeLinear", [product.weight, scale, point], [weight], made)
    if size > 1:
        stored.attribute.append(helper.make_attribute("axis", 0 if conv else codes.ndim - 1))
    yield stored
    out = names.fresh(f"{product.out}_product") if product.bias else product.out
    floats = remake(node, [product.x, weight], [out])
    floats.op_type, floats.domain = _PRODUCTS[node.op_type], ""
    yield floats
    if product.bias:
        added = names.fresh(f"{node.name or product.out}_bias")
        yield helper.make_node("Add", [out, product.bias], [product.out], added)


def _without_unread(net: Net) -> Net:
    """Drop what nobody reads any more."""
    wanted, kept = set(net.outputs), list[NodeProto]()
    for node in reversed(net.nodes):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(reads(node))
    return net.with_nodes(reversed(kept))
