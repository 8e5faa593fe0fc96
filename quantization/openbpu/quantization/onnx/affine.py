"""Fold what scales and shifts the channels of a convolution or matrix product into its weights and bias.

Conv(x, W, b) → BatchNormalization → Mul(γ: [1, C, 1, 1]) → Add(β)     becomes     Conv(x, W·a, b·a + d)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from openbpu.arch.arrays import Array
from openbpu.arch.onnx_ops import PRODUCTS
from openbpu.quantization.onnx.net import Names, Net
from openbpu.quantization.onnx.nodes import attribute, remake

Affine = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""y[c] = x[c] · scale[c] + shift[c]"""


def fold_affine(net: Net) -> Net:
    """Return `net` with the per-channel scales and shifts behind constant-weight MACs folded."""
    nodes: list[NodeProto | None] = list(net.nodes)
    readers, names, consts = net.consumers(), Names(net), dict(net.consts)
    for index, start in enumerate(net.nodes):
        node = start
        while node.op_type in PRODUCTS:
            users = readers.get(node.output[0], [])
            if len(users) != 1 or node.output[0] in net.outputs:
                break
            affine = _behind(node, net.nodes[users[0]], net, consts)
            folded = affine and _fold_into(node, affine, consts, names)
            if not folded:
                break
            node = remake(folded, outputs=[net.nodes[users[0]].output[0]])
            nodes[index], nodes[users[0]] = node, None
    return net.with_nodes((node for node in nodes if node is not None), consts)


def batchnorm_affine(node: NodeProto, net: Net) -> Affine | None:
    """Return the scale and shift of an inference BatchNormalization with constant parameters, or None."""
    if node.op_type != "BatchNormalization" or attribute(node, "training_mode", 0) or len(node.output) > 1:
        return None
    if any(name not in net.consts for name in node.input[1:5]):
        return None
    gamma, beta, mean, var = (net.consts[name].astype(np.float64) for name in node.input[1:5])
    scale = gamma / np.sqrt(var + attribute(node, "epsilon", 1e-5))
    return scale, beta - mean * scale


def channel_vector(array: Array, rank: int, axis: int, channels: int) -> npt.NDArray[np.float64] | None:
    """Return a constant that broadcasts along `axis` only as (channels,) float64; else None."""
    if array.dtype != np.float32 or array.ndim > rank:
        return None
    full = array.reshape((1,) * (rank - array.ndim) + array.shape)
    if any(size != 1 for position, size in enumerate(full.shape) if position != axis):
        return None
    if full.shape[axis] not in {1, channels}:
        return None
    return np.broadcast_to(full.reshape(-1), (channels,)).astype(np.float64)


def channel_affine(node: NodeProto, source: str, axis: int, channels: int, net: Net) -> Affine | None:
    """Return the scale and shift that `node` applies to `source` along `axis`; None if it does more."""
    rank = len(net.shapes.get(source) or ())
    affine = batchnorm_affine(node, net)
    if affine is not None:
        return affine if axis == 1 and node.input[0] == source else None
    if node.op_type not in {"Mul", "Add", "Sub", "Div"}:
        return None
    side = 1 if node.input[0] == source else 0
    constant = net.consts.get(node.input[side])
    value = None if constant is None else channel_vector(constant, rank, axis, channels)
    if value is None or (node.op_type == "Div" and (side == 0 or not value.all())):
        return None
    one, zero = np.ones_like(value), np.zeros_like(value)
    table = {
        "Mul": (value, zero),
        "Add": (one, value),
        "Sub": (one, -value) if side == 1 else (-one, value),
        "Div": (1 / np.where(value == 0, 1, value), zero),
    }
    return table[node.op_type]


def _behind(mac: NodeProto, node: NodeProto, net: Net, consts: dict[str, Array]) -> Affine | None:
    """Return the scale and shift that `node` applies to the channels of `mac`; None if it does more."""
    weight, out = consts.get(mac.input[1]), mac.output[0]
    if weight is None or not net.shapes.get(out):
        return None
    axis = 1 if mac.op_type.startswith("Conv") else len(net.shapes[out]) - 1
    return channel_affine(node, out, axis, _channels(mac, weight), net)


def _channels(mac: NodeProto, weight: Array) -> int:
    """Return the number of output channels."""
    if mac.op_type == "Conv":
        return int(weight.shape[0])
    if mac.op_type == "ConvTranspose":
        return int(weight.shape[1]) * int(attribute(mac, "group", 1))
    return int(weight.shape[0 if attribute(mac, "transB", 0) else -1])


def _fold_into(mac: NodeProto, affine: Affine, consts: dict[str, Array], names: Names) -> NodeProto | None:
    """Return `mac` with the affine in its weights and bias (put in `consts`); None if it cannot."""
    scale, shift = affine
    weight = consts.get(mac.input[1])
    bias = consts.get(mac.input[2]) if len(mac.input) > 2 and mac.input[2] else np.zeros(1, dtype=np.float32)
    plain = attribute(mac, "alpha", 1.0) == attribute(mac, "beta", 1.0) == 1.0
    if (
        weight is None
        or weight.dtype != np.float32
        or bias is None
        or bias.size not in {1, scale.size}
        or not plain
    ):
        return None
    if mac.op_type == "MatMul" and shift.any():
        return None
    inputs = [mac.input[0], names.fresh(f"{mac.input[1]}_folded")]
    consts[inputs[1]] = (weight * along_output(mac, weight, scale)).astype(np.float32)
    if mac.op_type != "MatMul":
        inputs.append(names.fresh(f"{mac.name or mac.output[0]}_bias_folded"))
        consts[inputs[2]] = (bias.reshape(-1) * scale + shift).astype(np.float32)
    return remake(mac, inputs)


def along_output(mac: NodeProto, weight: Array, scale: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `scale`, one per output channel, shaped to multiply the weights."""
    tail = (1,) * (weight.ndim - 2)
    if mac.op_type == "Conv":
        return scale.reshape(-1, 1, *tail)
    if (
        mac.op_type == "ConvTranspose"
    ):  # (in, out / group, …): input channel i belongs to group i // (in / group)
        group = int(attribute(mac, "group", 1))
        per_group = np.repeat(scale.reshape(group, -1), weight.shape[0] // group, axis=0)
        return per_group.reshape(*per_group.shape, *tail)
    return scale.reshape(-1, 1) if attribute(mac, "transB", 0) else scale
