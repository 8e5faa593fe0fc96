"""Quantize and Dequantize between floats and BPU codes run on the BPU where the march has a unit for them."""

from __future__ import annotations

import numpy as np

from openbpu.arch.dtypes import DType
from openbpu.arch.march import March
from openbpu.arch.onnx_ops import VIEWS
from openbpu.compiler.ir import Graph, Node, Quant, Rewriter
from openbpu.compiler.ir.qdq import BPU_CODES, is_dequantize, is_quantize, scaling
from openbpu.compiler.passes.refusals import Refusal
from openbpu.compiler.passes.remove_io import remove_io

_END_FIX = "--remove-io quantize,dequantize takes it off the end of the model"


def place_borders(graph: Graph, march: March) -> Graph:
    """Turn Q in front of and DQ behind BPU nodes into BPU nodes; all others stay ONNX (the CPU's)."""
    if not march.quantize_on_bpu:
        return graph
    rw = Rewriter(graph)
    producers, consumers = graph.producers(), graph.consumers()
    floats: set[str] = set()
    for node in graph.nodes:
        if is_quantize(node) and any(c.is_bpu for c in consumers.get(node.outputs[0], [])):
            _quantize(rw, node)
        elif is_dequantize(node) and (made := producers.get(node.inputs[0])) is not None and made.is_bpu:
            _dequantize(rw, node)
            if rw.nodes[-1].is_bpu:
                floats.add(node.outputs[0])
        elif node.op in VIEWS and node.domain == "" and node.inputs[0] in floats and _static(rw, node):
            # Scales per channel of an axis that it splits cannot sink below it, but it moves nothing.
            rw.bpu("Reshape", node.outputs[0], node.origins, node.name, x=node.inputs[0])
            floats.add(node.outputs[0])
        elif node.op == "Transpose" and node.domain == "" and node.inputs[0] in floats and _static(rw, node):
            rank = len(rw.graph.values[node.outputs[0]].shape or ())
            perm = tuple(node.attrs.get("perm") or reversed(range(rank)))
            rw.bpu("Transpose", node.outputs[0], node.origins, node.name, x=node.inputs[0], perm=perm)
            floats.add(node.outputs[0])
        else:
            rw.nodes.append(node)
    return rw.finish()


def cpu_borders(graph: Graph, march: March) -> dict[str, Refusal]:
    """Return why Q and DQ nodes stay on the CPU, by original node name, on a march that quantizes there."""
    if march.quantize_on_bpu:
        return {}
    reason = f"{march.name} has no unit for floats: it quantizes and dequantizes on the CPU"
    bare = remove_io(graph, frozenset({"quantize", "dequantize"}))
    stays = {o.name for n in bare.nodes for o in n.origins}
    return {
        o.name: Refusal(reason, _inner_fix(graph, n) if o.name in stays else _END_FIX)
        for n in graph.nodes
        if is_quantize(n) or is_dequantize(n)
        for o in n.origins
    }


def _inner_fix(graph: Graph, node: Node) -> str:
    """Say what to do about a Quantize or Dequantize that --remove-io leaves where it is."""
    maker = graph.producers().get(node.inputs[0])
    floats = [maker] if is_quantize(node) and maker else graph.consumers().get(node.outputs[0], [])
    beside = [f"{n.op} '{n.name}'" for n in floats if not n.is_bpu and not is_quantize(n)]
    if beside:
        return f"bring {' and '.join(beside)} onto the BPU: then it is not needed"
    if is_quantize(node):
        return "let it be the input's only reader, and give out no codes: then --remove-io takes it off"
    return "give out a value that nothing inside of the model reads: then --remove-io takes it off"


def _quantize(rw: Rewriter, node: Node) -> None:
    scale = scaling(rw.graph, node)
    if not _is_static_float(rw, node.inputs[0]) or scale is None or not scale.per_tensor:
        rw.nodes.append(node)
        return
    if scale.dtype not in ("int8", "int16"):
        rw.nodes.append(node)
        return
    dtype = DType(scale.dtype)
    rw.set_quant(node.outputs[0], Quant((scale.s,), scale.z))
    rw.bpu(
        "Quantize",
        node.outputs[0],
        node.origins,
        node.name,
        x=node.inputs[0],
        scale=scale.s,
        zero=scale.z,
        lo=dtype.qmin,
        hi=dtype.qmax,
    )


def _dequantize(rw: Rewriter, node: Node) -> None:
    scale = scaling(rw.graph, node)
    if not _is_static_float(rw, node.outputs[0]) or scale is None or scale.dtype not in BPU_CODES:
        rw.nodes.append(node)
        return
    if np.unique(scale.zero).size != 1:
        rw.nodes.append(node)
        return
    scales = scale.scale if scale.offset is None else np.stack([scale.scale, scale.offset], axis=1)
    name = rw.constant(f"{node.outputs[0]}/scales", scales.astype(np.float32))
    rw.bpu(
        "Dequantize",
        node.outputs[0],
        node.origins,
        node.name,
        x=node.inputs[0],
        scales=name,
        axis=scale.axis,
        x_zero=scale.z,
    )


def _static(rw: Rewriter, node: Node) -> bool:
    return rw.graph.values[node.outputs[0]].shape is not None


def _is_static_float(rw: Rewriter, name: str) -> bool:
    value = rw.graph.values[name]
    return value.dtype == "float32" and value.shape is not None
