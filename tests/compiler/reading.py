"""Models as ONNX text, and the proof that reading them changed nothing: ONNX Runtime on both sides."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper, parser

from openbpu.compiler.ir.graph import Graph
from openbpu.compiler.reader import read_model, to_onnx
from openbpu.evaluation.reference.float64 import evaluate
from witness import ort

Array = npt.NDArray[Any]


def model(body: str, opset: int = 21, domains: str = "", functions: str = "") -> ModelProto:
    """A model from ONNX text: `g (float[1,3] x) => (float[1,3] y) { y = Relu(x) }`."""
    more = f", {domains}" if domains else ""
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}{more}]> {body} {functions}')


def ops(graph: Graph) -> dict[str, int]:
    return dict(Counter(node.op for node in graph.nodes))


def the(graph: Graph, op: str) -> dict[str, object]:
    """The only node of an operator as a readable dictionary: constants instead of the names of inputs."""
    (node,) = (node for node in graph.nodes if node.op == op)
    inputs = [graph.const(name) for name in node.inputs]
    return {"attrs": dict(node.attrs), "inputs": [None if a is None else a.tolist() for a in inputs]}


def run(proto: ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """The outputs of ONNX Runtime, or of the float64 reference where that one is no witness."""
    if not ort.is_witness_for(proto):
        found = evaluate(proto, feeds).outputs
        kinds = {
            o.name: helper.tensor_dtype_to_np_dtype(o.type.tensor_type.elem_type) for o in proto.graph.output
        }
        return [found[name].astype(kind) for name, kind in kinds.items()]
    session = ort.session(proto)
    names = {i.name for i in session.get_inputs()}
    results: list[Array] = session.run(None, {k: v for k, v in feeds.items() if k in names})
    return results


def feeds_of(proto: ModelProto, seed: int = 0) -> dict[str, Array]:
    """Random values for every input with a static shape."""
    rng = np.random.default_rng(seed)
    weights = {t.name for t in proto.graph.initializer}
    feeds: dict[str, Array] = {}
    for value in proto.graph.input:
        if value.name in weights:
            continue
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feeds[value.name] = (rng.standard_normal(shape) * 4).astype(dtype)
    return feeds


def read_equal(proto: ModelProto, feeds: dict[str, Array] | None = None, atol: float = 1e-6) -> Graph:
    """Read a model and assert that what was read computes the same."""
    feeds = feeds_of(proto) if feeds is None else feeds
    graph = read_model(proto)
    for old, new, name in zip(run(proto, feeds), run(to_onnx(graph), feeds), graph.outputs, strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=atol)
        shape = graph.values[name].shape
        assert shape is None or shape == old.shape
    return graph


def weight(name: str, array: Array) -> TensorProto:
    return helper.make_tensor(
        name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape, array.tobytes(), raw=True
    )
