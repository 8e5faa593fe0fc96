"""Quantize and Dequantize between floats and BPU codes run on the BPU where the march has a unit for them."""

from __future__ import annotations

import numpy as np

from openbpu.arch.dtypes import DType
from openbpu.arch.march import March
from openbpu.compiler.ir import Graph, Node, Quant, Rewriter
from openbpu.compiler.passes.qdq import is_dequantize, is_quantize, scaling


def place_borders(graph: Graph, march: March) -> Graph:
    """Turn Q in front of and DQ behind BPU nodes into BPU nodes; all others stay ONNX (the CPU's)."""
    if not march.quantize_on_bpu:
        return graph
    rw = Rewriter(graph)
    producers, consumers = graph.producers(), graph.consumers()
    for node in graph.nodes:
        if is_quantize(node) and any(c.is_bpu for c in consumers.get(node.outputs[0], [])):
            _quantize(rw, node)
        elif is_dequantize(node) and (made := producers.get(node.inputs[0])) is not None and made.is_bpu:
            _dequantize(rw, node)
        else:
            rw.nodes.append(node)
    return rw.finish()


def _quantize(rw: Rewriter, node: Node) -> None:
    scale = scaling(rw.graph, node)
    source = rw.graph.values[node.inputs[0]]
    if scale is None or not scale.per_tensor or scale.dtype not in ("int8", "int16") or source.dtype != "float32" or source.shape is None:
        rw.nodes.append(node)
    else:
        dtype = DType(scale.dtype)
        rw.set_quant(node.outputs[0], Quant((scale.s,), scale.z))
        attrs = {"scale": scale.s, "zero": scale.z, "lo": dtype.qmin, "hi": dtype.qmax}
        rw.add("Quantize", node.inputs[:1], node.outputs, node.origins, node.name, **attrs)


def _dequantize(rw: Rewriter, node: Node) -> None:
    scale = scaling(rw.graph, node)
    target = rw.graph.values[node.outputs[0]]
    if scale is None or scale.dtype not in ("int8", "int16", "int32") or target.dtype != "float32" or np.unique(scale.zero).size != 1 or target.shape is None:
        rw.nodes.append(node)
    else:
        name = rw.constant(f"{node.outputs[0]}/scales", scale.scale.astype(np.float32))
        rw.add(
            "Dequantize",
            (node.inputs[0], name),
            node.outputs,
            node.origins,
            node.name,
            axis=scale.axis,
            x_zero=scale.z,
        )
