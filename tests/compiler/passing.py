"""Passes on small models: what they make of the graph, and the proof that it still computes the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import ModelProto, helper

from compiler.reading import Array, run
from openbpu.arch.march import get_march
from openbpu.compiler import passes
from openbpu.compiler.ir import Graph, Node
from openbpu.compiler.passes.borders import place_borders
from openbpu.compiler.passes.integerise import integerise
from openbpu.compiler.passes.refusals import Refusal
from openbpu.compiler.reader import read_model, to_onnx

Pass = Callable[[Graph], Graph]


def passed(proto: ModelProto, *passes: Pass) -> Graph:
    """The graph of a model behind these passes."""
    graph = read_model(proto)
    for step in passes:
        graph = step(graph)
    return graph


def proved(proto: ModelProto, *passes: Pass, atol: float = 0.0) -> Graph:
    """As `passed`; ONNX Runtime gives the same before and after (ONNX operators only)."""
    graph = passed(proto, *passes)
    feeds = values_for(proto)
    for old, new in zip(run(proto, feeds), run(to_onnx(graph), feeds), strict=True):
        assert new.dtype == old.dtype
        np.testing.assert_allclose(new.astype(np.float64), old.astype(np.float64), rtol=0, atol=atol)
    return graph


def integers(proto: ModelProto, march: str = "nash-e") -> tuple[Graph, dict[str, Refusal]]:
    """The integer graph of a model, and why nodes stayed on the CPU."""
    return integerise(passed(proto, lambda g: passes.run(passes.NORMALISE, g)), get_march(march))


def settled(proto: ModelProto, march: str = "nash-e") -> Graph:
    """The graph that lowering sees."""
    return passes.run(passes.SETTLE, place_borders(integers(proto, march)[0], get_march(march)))


def values_for(proto: ModelProto, seed: int = 0) -> dict[str, Array]:
    """Random values for every input: the whole range of integers, −4..4 for floats."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in proto.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            feeds[value.name] = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
        else:
            feeds[value.name] = rng.uniform(-4, 4, shape).astype(dtype)
    return feeds


def order(graph: Graph) -> list[str]:
    """Operators in the order they run, Q and DQ shortened."""
    short = {"QuantizeLinear": "Q", "DequantizeLinear": "DQ"}
    return [short.get(n.op, n.op) for n in graph.nodes]


def count(graph: Graph, op: str) -> int:
    """How many nodes of an operator there are."""
    return sum(n.op == op for n in graph.nodes)


def the(graph: Graph, op: str) -> Node:
    """The only node of an operator."""
    (node,) = (n for n in graph.nodes if n.op == op)
    return node


def input_dtype(graph: Graph, op: str) -> str:
    """Type of what the only node of an operator reads first."""
    return graph.values[the(graph, op).inputs[0]].dtype
