"""Facts about `quantize` of models that store constants sparsely."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, helper, numpy_helper

from openbpu.arch.errors import ModelError
from openbpu.quantization.onnx import quantize
from witness import ort

WEIGHTS = np.array([[1, 0, 0, -2], [0, 0, 3, 0], [0, 0.5, 0, 0], [0, 0, 0, 1]], np.float32)
FEED = {"x": np.array([[[0.5, -1, 2, 1]], [[1, 1, -1, 0]]], np.float32), "c": np.array([[True], [False]])}


def sparse(name: str, size: int = 4) -> SparseTensorProto:
    at = np.flatnonzero(WEIGHTS)
    values = numpy_helper.from_array(WEIGHTS.reshape(-1)[at], name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(at, "at"), [4, size])


def body(name: str, nodes: list[NodeProto], *weights: SparseTensorProto) -> GraphProto:
    graph = helper.make_graph(
        nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])]
    )
    graph.sparse_initializer.extend(weights)
    return graph


def model(*nodes: NodeProto) -> ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    c = helper.make_tensor_value_info("c", TensorProto.BOOL, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph(nodes, "sparse", [x, c], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


PRODUCT = helper.make_node("MatMul", ["x", "w"], ["p"])
CHOICE = helper.make_node("Where", ["c", "p", "x"], ["y"])


def initializer() -> ModelProto:
    made = model(PRODUCT, CHOICE)
    made.graph.sparse_initializer.append(sparse("w"))
    return made


def constant() -> ModelProto:
    return model(helper.make_node("Constant", [], ["w"], sparse_value=sparse("")), PRODUCT, CHOICE)


def branches(*nodes: NodeProto, weights: tuple[SparseTensorProto, ...] = ()) -> NodeProto:
    yes = body("yes", [*nodes, helper.make_node("MatMul", ["x", "w"], ["yes"])], *weights)
    no = body("no", [helper.make_node("Identity", ["x"], ["no"])])
    return helper.make_node("If", ["c"], ["z"], then_branch=yes, else_branch=no)


def in_branch() -> ModelProto:
    return model(branches(weights=(sparse("w"),)), helper.make_node("Neg", ["z"], ["y"]))


def in_branch_of_a_function() -> ModelProto:
    made = model(helper.make_node("F", ["x", "c"], ["z"], domain="my"), helper.make_node("Neg", ["z"], ["y"]))
    nodes = [branches(helper.make_node("Constant", [], ["w"], sparse_value=sparse("")))]
    opsets = [helper.make_opsetid("", 17)]
    made.functions.append(helper.make_function("my", "F", ["x", "c"], ["z"], nodes, opsets))
    made.opset_import.append(helper.make_opsetid("my", 1))
    return made


@pytest.mark.parametrize("make", [initializer, constant, in_branch, in_branch_of_a_function])
def test_sparse_constants_are_quantized_as_dense_ones(make: Callable[[], ModelProto]) -> None:
    given = make()
    before = given.SerializeToString()
    made = quantize(given, FEED)
    assert given.SerializeToString() == before
    sign = -1 if given.graph.node[-1].op_type == "Neg" else 1
    for x, c in zip(FEED["x"], FEED["c"], strict=True):
        y = ort.run(made, {"x": x, "c": c})["y"]
        np.testing.assert_allclose(y, sign * (x @ WEIGHTS if c.item() else x), atol=0.05)


def test_a_sparse_constant_that_says_it_is_huge_is_refused() -> None:
    made = model(PRODUCT, CHOICE)
    made.graph.sparse_initializer.append(sparse("w", 1 << 40))
    with pytest.raises(ModelError, match=r"sparse tensor 'w': its dense form must be .* at most 2 GiB"):
        quantize(made, FEED)


def test_a_sparse_constant_with_an_index_outside_is_refused() -> None:
    made = onnx.ModelProto()
    made.CopyFrom(initializer())
    made.graph.sparse_initializer[0].dims[0] = 2
    with pytest.raises(ModelError, match=r"sparse tensor 'w': indices must be inside the shape \(2, 4\)"):
        quantize(made, FEED)
