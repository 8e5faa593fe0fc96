"""Bring a net to an opset that its quantized form can have and ONNX Runtime can run."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, version_converter

from openbpu.arch.arrays import Array
from openbpu.arch.errors import ModelError, must
from openbpu.quantization.onnx.net import Names, Net, assemble, take_apart
from openbpu.quantization.onnx.nodes import remake

OPSET_PER_CHANNEL = 13
"""First opset whose QuantizeLinear has an axis."""

OPSET_INT16 = 21
"""First opset whose QuantizeLinear makes int16."""

OPSET_RUNS = 26
"""Newest opset that ONNX Runtime 1.31 runs; a newer model that uses nothing newer goes back to it."""

IR_RUNS = 13
"""Newest IR version that ONNX Runtime 1.31 reads; newer ones only added what a model may hold."""

_IR_VERSION = {OPSET_PER_CHANNEL: 7, 17: 8, OPSET_INT16: 10, 23: 11}
"""IR version that came with an opset."""


def raise_opset(net: Net, opset: int) -> Net:
    """Return `net` at `opset` or newer; raises ModelError where ONNX cannot convert it.

    A net that is newer than `OPSET_RUNS` goes back to that where it can.

    The converter sees the shapes, which spare it detours (a Softmax on the last axis stays one node), but no
    large weights.
    """
    net = net.with_nodes([_half_pixel(node) for node in net.nodes], {})
    if net.opset > OPSET_RUNS:
        with contextlib.suppress(ModelError):  # it needs what is new: perhaps this ONNX Runtime knows it
            net = _converted(net, OPSET_RUNS)
    if net.opset < opset:
        if net.opset < OPSET_INT16 <= opset:
            net = _norms_per_channel(net)
        net = _converted(net, opset)
    ir_version = max(net.header.ir_version, _IR_VERSION[opset])
    if net.opset <= OPSET_RUNS:
        ir_version = min(ir_version, IR_RUNS)
    if net.header.ir_version == ir_version:
        return net
    header = ModelProto()
    header.CopyFrom(net.header)
    header.ir_version = ir_version
    return replace(net, header=header)


def _converted(net: Net, opset: int) -> Net:
    skeleton = assemble(net, skeleton=True)
    skeleton.ir_version = max(skeleton.ir_version, 4)  # from 4 on, an initializer need not be an input
    known = {v.name for v in (*skeleton.graph.value_info, *skeleton.graph.input, *skeleton.graph.output)}
    computed = [
        name for node in net.nodes for name in node.output if name in net.shapes and name not in known
    ]
    skeleton.graph.value_info.extend(
        helper.make_tensor_value_info(name, net.types[name], net.shapes[name]) for name in computed
    )
    try:
        converted = version_converter.convert_version(skeleton, opset)
    except (RuntimeError, ValueError, version_converter.ConvertError, onnx.checker.ValidationError) as error:
        what, fix = f"opset {net.opset} ({error})", f"export the model at opset {opset} or newer"
        name = f"model '{net.header.graph.name}'"
        raise ModelError(must(name, "its opset", f"convertible to {opset}", what, fix)) from error
    _restore_metadata(net, converted)
    inputs = [v for v in converted.graph.input if v.name not in net.consts]
    del converted.graph.input[:]
    converted.graph.input.extend(inputs)
    made = take_apart(converted)
    return made.with_nodes(made.nodes, {**net.consts, **made.consts})


def _half_pixel(node: NodeProto) -> NodeProto:
    """Return a Resize by tf_half_pixel_for_nn, which opset 13 dropped, in words that every opset has.

    It takes pixel floor((x + 0.5) / s), which is half_pixel's (x + 0.5) / s - 0.5 rounded half up.
    """
    if node.op_type != "Resize" or node.domain:
        return node
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    modes = (given.get("mode", b"nearest"), given.get("nearest_mode", b"round_prefer_floor"))
    if given.get("coordinate_transformation_mode") != b"tf_half_pixel_for_nn" or modes != (
        b"nearest",
        b"floor",
    ):
        return node
    renewed = NodeProto()
    renewed.CopyFrom(node)
    exact = {"coordinate_transformation_mode": b"half_pixel", "nearest_mode": b"round_prefer_ceil"}
    for attribute in renewed.attribute:
        attribute.s = exact.get(attribute.name, attribute.s)
    return renewed


def _norms_per_channel(net: Net) -> Net:
    """Return `net` with a scale and bias per channel, not per group, in every GroupNormalization.

    So opset 21 defines it; the converter leaves it as it was.
    """
    names, consts = Names(net), dict[str, Array]()

    def per_channel(name: str, channels: int) -> str:
        value = net.consts.get(name)
        if value is None or not value.size or channels % value.size:
            return name
        wide = names.fresh(f"{name}_per_channel")
        consts[wide] = np.repeat(value, channels // value.size)
        return wide

    def renewed(node: NodeProto) -> NodeProto:
        channels = (*net.shapes.get(node.input[0], ()), None, None)[1] if node.input else None
        if node.op_type != "GroupNormalization" or not isinstance(channels, int):
            return node
        x, *parameters = node.input
        return remake(node, [x, *(per_channel(name, channels) for name in parameters)])

    nodes = [renewed(node) for node in net.nodes]
    return net.with_nodes(nodes, consts)


def _restore_metadata(net: Net, converted: ModelProto) -> None:
    """Give nodes what exporters wrote about them, which the converter drops."""
    origins = {name: node for node in net.nodes for name in node.output}
    for node in converted.graph.node:
        origin = next((origins[name] for name in node.output if name in origins), None)
        if origin is not None and not node.metadata_props:
            node.metadata_props.extend(origin.metadata_props)
