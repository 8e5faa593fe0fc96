"""Bias correction: what rounding shifts the mean of a product by is taken off its bias.

    y = W x + b          float                                    mean of y, per channel
    ŷ = Ŵ x̂ + b̂          quantized, behind corrected layers       mean of ŷ
    b̂ ← b̂ + round((mean of y − mean of ŷ) / step)                 in steps of the accumulator

Layer by layer in the order of the graph, so that a layer corrects what is left of the shifts in front of it.
It is the empirical form of section 4.2 of Nagel et al., *Data-Free Quantization Through Weight Equalization
and Bias Correction*, 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import NodeProto, helper

from openbpu.arch.arrays import Array
from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.calibrate import Progress, observed
from openbpu.quantization.onnx.corrections.layers import Bias, Layer, biases, layers
from openbpu.quantization.onnx.corrections.walk import Walk, affordable, means
from openbpu.quantization.onnx.net import Names, Net
from openbpu.quantization.onnx.nodes import remake
from openbpu.quantization.onnx.samples import Feed

SAMPLES = 64
"""Means are taken over this many samples at most."""


def correct_biases(net: Net, float_net: Net, feeds: Sequence[Feed], progress: Progress) -> tuple[Net, int]:
    """Return the quantized `net` with corrected biases, and how many there are.

    A bias that is shared, computed or a matrix stays. Shapes of `net` must be known.
    """
    found = list(biases(net, float_net))
    feeds = feeds[: min(SAMPLES, affordable(net, [bias.index + 1 for bias in found]))]
    wanted = _float_means(float_net, found, feeds, progress)
    walk = Walk(net, feeds)
    for done, bias in enumerate(found):
        walk.advance(bias.index + 1, bias.out)
        values = [tensors[bias.out] for tensors in walk.live]
        shift = wanted[bias.matched] - means(values, bias.axis)
        made = _shifted(walk, bias, shift)
        for tensors in walk.live:
            shape = [
                -1 if i == bias.axis % tensors[bias.out].ndim else 1 for i in range(tensors[bias.out].ndim)
            ]
            tensors[bias.out] = tensors[bias.out] + made.astype(np.float32).reshape(shape)
        progress("correct biases", done + 1, len(found))
    return net.with_nodes(net.nodes, walk.consts), len(found)


def _shifted(walk: Walk, bias: Bias, shift: Array) -> Array:
    """Add `shift` to a bias as far as its steps allow; return what was added."""
    old = walk.consts[bias.values]
    if not np.isfinite(shift).all() or shift.size != old.size:
        return np.zeros_like(shift)
    if not bias.step:
        walk.consts[bias.values] = (old + shift.reshape(old.shape)).astype(np.float32)
        return shift
    step = walk.consts[bias.step].astype(np.float64)
    codes = np.clip(old.reshape(-1) + np.rint(shift / step), DType.INT32.qmin, DType.INT32.qmax)
    walk.consts[bias.values] = codes.astype(np.int32).reshape(old.shape)
    added: Array = (codes - old.reshape(-1)) * step
    return added


def _float_means(
    net: Net, found: Sequence[Bias], feeds: Sequence[Feed], progress: Progress
) -> dict[str, Array]:
    """Return the mean of every channel of the float net's tensors."""
    axes = {bias.matched: bias.axis for bias in found}
    totals: dict[str, tuple[Array, int]] = {}
    for name, _, x in observed(net, list(axes), feeds, progress, "observe means"):
        rows = x.size // max(x.shape[axes[name]], 1)
        total, count = totals.get(name, (0.0, 0))
        totals[name] = (total + means([x], axes[name]) * rows, count + rows)
    return {name: total / max(count, 1) for name, (total, count) in totals.items()}


def with_biases(net: Net) -> Net:
    """Return the quantized `net` with a bias of zeros where a Conv, ConvTranspose or Gemm has none."""
    names, consts, nodes = Names(net), dict[str, Array](), list[NodeProto]()
    wanting = {layer.index: layer for layer in layers(net) if len(net.nodes[layer.index].input) == 2}
    makers = net.producers()
    for index, node in enumerate(net.nodes):
        layer = wanting.get(index)
        step = _step(net, makers, layer) if layer is not None and node.op_type != "MatMul" else None
        if step is None:
            nodes.append(node)
            continue
        name = f"{node.name}_bias"
        inputs = [names.fresh(f"{name}_quantized"), names.fresh(f"{name}_scale")]
        consts[inputs[0]], consts[inputs[1]] = np.zeros(step.shape, dtype=np.int32), step
        out = names.fresh(f"{name}_DequantizeLinear_Output")
        made = helper.make_node(
            "DequantizeLinear", inputs, [out], names.fresh(f"{name}_DequantizeLinear"), axis=0
        )
        nodes += [made, remake(node, [*node.input, out])]
    return net.with_nodes(nodes, consts)


def _step(net: Net, makers: Mapping[str, int], layer: Layer) -> Array | None:
    """Return the step of a product's accumulator, one per output channel; None where it has none."""
    source = makers.get(layer.source)
    maker = None if source is None else net.nodes[source]
    if maker is None or maker.op_type != "DequantizeLinear":
        return None
    scale, weight = net.consts.get(maker.input[1]), net.consts[layer.scale]
    if scale is None or scale.dtype != np.float32 or scale.size != 1:
        return None
    node = net.nodes[layer.index]
    group = next((item.i for item in node.attribute if item.name == "group"), 1)
    channels = net.consts[layer.codes].shape[layer.axis] * (group if node.op_type == "ConvTranspose" else 1)
    step: Array = np.tile(scale.reshape(()) * weight.reshape(-1), channels // weight.size)
    return step
