"""`read_model`: the one door into the compiler."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnx import ModelProto, NodeProto, TypeProto

from openbpu.compiler.ir.graph import Graph
from openbpu.compiler.reader.check import check_domains, check_nodes, checked_opsets
from openbpu.compiler.reader.cleanup import live_nodes, with_constant_outputs, without_final_copies
from openbpu.compiler.reader.dtypes import check_quantization
from openbpu.compiler.reader.fold import Budget
from openbpu.compiler.reader.functions import without_functions
from openbpu.compiler.reader.infer import Inference, small_copy
from openbpu.compiler.reader.inputs import has_dynamic_inputs, static_inputs
from openbpu.compiler.reader.load import at_readable_opset, load_proto
from openbpu.compiler.reader.nodes import captures_of, reads_of, subgraphs_of
from openbpu.compiler.reader.opsets import oldest_opsets
from openbpu.compiler.reader.order import checked_order
from openbpu.compiler.reader.schemas import FORM_OPSET
from openbpu.compiler.reader.scope import Names, Scope, constant
from openbpu.compiler.reader.tensors import TensorReader
from openbpu.compiler.reader.walk import Walk


def read_model(
    model: str | os.PathLike[str] | ModelProto, shapes: Mapping[str, Sequence[int]] | None = None
) -> Graph:
    """Read an ONNX model of opset 7 or newer into the form that every pass expects.

    `model` is a path or a ModelProto (not changed); `shapes` gives dynamic inputs their sizes. The graph is
    at opset 21 or, where its operators need it, newer: arguments are inputs, defaults with a say in the shape
    are written out, constants are folded, nodes that compute nothing are gone, every value whose shape is
    static has it. Q/DQ nodes stay as they are. Names of inputs and outputs are the model's.

    Raises:
        ModelError: the file or graph is damaged or dynamic, or its operators are none of their domain.
        QuantizationError: a Quantize divides in another type than float32.
    """
    proto, folder = load_proto(model)
    return _graph_of(without_functions(at_readable_opset(proto)), folder, shapes)


def check_readable(
    model: str | os.PathLike[str] | ModelProto, shapes: Mapping[str, Sequence[int]] | None = None
) -> None:
    """Raise what `read_model` raises for an illegal model, and ModelError for operators that nothing can run.

    A model whose inputs stay dynamic is only parsed.
    """
    proto, folder = load_proto(model)
    check_domains(without_functions(proto).graph.node)
    if not has_dynamic_inputs(proto.graph, shapes):
        _graph_of(without_functions(at_readable_opset(proto)), folder, shapes)


def _graph_of(proto: ModelProto, folder: Path | None, shapes: Mapping[str, Sequence[int]] | None) -> Graph:
    opsets = checked_opsets(proto)
    check_nodes(proto.graph.node, opsets)
    order = checked_order(proto.graph)
    inputs = static_inputs(proto.graph, shapes)
    walk = _start(proto, opsets, inputs, TensorReader(folder), order)
    for node in order:
        walk.visit(node)
    return _finished(proto, list(inputs), walk)


def _start(
    proto: ModelProto,
    opsets: Mapping[str, int],
    inputs: Mapping[str, TypeProto],
    tensors: TensorReader,
    order: Sequence[NodeProto],
) -> Walk:
    outputs = [value.name for value in proto.graph.output]
    captured = [name for node in order for graph in subgraphs_of(node) for name in captures_of(graph)]
    used = {name for node in order for name in reads_of(node)}
    scope = Scope(opsets, used.union(outputs), _names(proto))
    for tensor in proto.graph.initializer:
        scope.define(constant(tensor.name, tensors.array(tensor)))
    for sparse in proto.graph.sparse_initializer:
        scope.define(constant(sparse.values.name, tensors.dense(sparse)))
    for name, known in inputs.items():
        scope.define_typed(name, known)
    target = {**opsets, "": max(opsets.get("", FORM_OPSET), FORM_OPSET)}
    inference = Inference(target, lambda: small_copy(proto, inputs))
    budget = Budget.of_weights(sum(v.const.nbytes for v in scope.values.values() if v.const is not None))
    return Walk(scope, inference, tensors, target, frozenset({*outputs, *captured}), budget)


def _names(proto: ModelProto) -> Names:
    names = Names(value.name for value in (*proto.graph.input, *proto.graph.initializer))
    names.update(sparse.values.name for sparse in proto.graph.sparse_initializer)
    for node in proto.graph.node:
        names.update(node.input, node.output)
    return names


def _finished(proto: ModelProto, inputs: Sequence[str], walk: Walk) -> Graph:
    outputs = tuple(value.name for value in proto.graph.output)
    values = walk.scope.values
    fresh = (walk.scope.fresh(f"{name}_constant") for name in outputs)
    nodes = live_nodes(with_constant_outputs(walk.nodes, outputs, values, fresh), outputs)
    opsets = oldest_opsets(nodes, walk.opsets, values)
    graph = Graph(tuple(nodes), values, tuple(inputs), outputs, opsets, proto.graph.name or "model")
    graph = without_final_copies(graph.with_nodes(nodes))
    check_quantization(graph)
    return graph
