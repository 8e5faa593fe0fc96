"""max|x| of many tensors in one run that keeps none of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from openbpu.arch.arrays import Array
from openbpu.quantization.onnx.engine import run_once
from openbpu.quantization.onnx.net import SMALL, Names, Net, assemble

Ends = Mapping[str, tuple[str, str]]


def peaks(net: Net, names: Sequence[str], feed: Mapping[str, Array]) -> dict[str, float]:
    """Return max|x| of each float32 tensor, 0 … inf; NaN may be overlooked. Raises ModelError as `run` does.

    Reductions stand right behind what they observe, and weights are fed instead of copied into the session:
    memory for the weights once and for what one inference needs.
    """
    fresh = Names(net)
    ends = {name: (fresh.fresh(f"{name}_max"), fresh.fresh(f"{name}_min")) for name in names}
    weights = {name: array for name, array in net.consts.items() if array.size > SMALL}
    found = run_once(
        _reduced(net, ends), {**feed, **weights}, [end for pair in ends.values() for end in pair]
    )
    return {name: float(np.maximum(found[top], -found[low])) for name, (top, low) in ends.items()}


def _reduced(net: Net, ends: Ends) -> ModelProto:
    """Return the net with the reductions as its only outputs and large constants as inputs."""
    model = assemble(net, skeleton=True)
    graph = model.graph
    nodes = [*_reductions(net.inputs, ends)]
    for node in net.nodes:
        nodes += [node, *_reductions(node.output, ends)]
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.output.extend(
        helper.make_tensor_value_info(end, TensorProto.FLOAT, ()) for pair in ends.values() for end in pair
    )
    return model


def _reductions(tensors: Iterable[str], ends: Ends) -> Iterable[NodeProto]:
    for name in tensors:
        if name in ends:
            top, low = ends[name]
            yield helper.make_node("ReduceMax", [name], [top], keepdims=0)
            yield helper.make_node("ReduceMin", [name], [low], keepdims=0)
