"""Functions of an older opset than the model's mean what they meant in theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from compiler.reading import run
from openbpu.arch.errors import ModelError
from openbpu.compiler.reader import read_model, to_onnx

SHAPE = [1, 2, 4, 4]
DOUBLE = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "s")


def called(node: NodeProto, opset: int, target: int, *, inside_if: bool = False) -> ModelProto:
    """A model of opset `target` that calls a function of `opset` around a node y = op(x, s)."""
    ids, nodes = [helper.make_opsetid("", opset)], [node]
    if inside_if:
        value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        branch = helper.make_graph([node], "branch", [], [value])
        flag = helper.make_tensor("flag", TensorProto.FLOAT, [1], [1.0])
        nodes = [
            helper.make_node("Constant", [], ["f"], value=flag),
            helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
            helper.make_node("ReduceMax", ["f"], ["n"], keepdims=0),
            helper.make_node("Less", ["m", "n"], ["c"]),
            helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch),
        ]
    result = "z" if inside_if else "y"
    function = helper.make_function("my", "F", ["x", "s"], [result], nodes, ids)
    return outer([helper.make_node("F", ["x", "s"], ["out"], domain="my")], "out", target, [function])


def outer(
    nodes: list[NodeProto], result: str, opset: int, functions: list[FunctionProto] | None = None
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)],
        [DOUBLE],
    )
    ids = [helper.make_opsetid("", opset), helper.make_opsetid("my", 1)]
    return helper.make_model(graph, functions=functions, opset_imports=ids, ir_version=10)


@pytest.mark.parametrize("inside_if", [False, True])
@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "opset", "target"),
    [
        ("Hardmax", ["x"], {}, 11, 17),
        ("Hardmax", ["x"], {"axis": 2}, 9, 13),
        ("Softmax", ["x"], {"axis": 1}, 11, 17),
        ("LogSoftmax", ["x"], {}, 11, 21),
        ("Resize", ["x", "s"], {"mode": "linear"}, 10, 11),
        ("Resize", ["x", "s"], {"mode": "nearest"}, 10, 17),
        ("Upsample", ["x", "s"], {"mode": "linear"}, 9, 17),
        ("Upsample", ["x"], {"mode": "linear", "scales": [1.0, 1.0, 2.0, 2.0]}, 8, 17),
    ],
)
def test_an_operator_in_a_function_means_what_it_meant_in_its_opset(
    op: str, inputs: list[str], attributes: dict[str, Any], opset: int, target: int, *, inside_if: bool
) -> None:
    node = helper.make_node(op, inputs, ["y"], **attributes)
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    expected = run(to_onnx(read_model(outer([node], "y", opset))), {"x": x})
    got = run(to_onnx(read_model(called(node, opset, target, inside_if=inside_if))), {"x": x})
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-6, atol=1e-6)


def test_tensors_around_an_older_function_need_no_declared_type() -> None:
    old, new = (helper.make_node("Softmax", ["x"], ["y"], axis=axis) for axis in (3, -1))
    made = called(old, 12, 17)
    made.graph.node.insert(0, helper.make_node("Neg", ["x"], ["n"]))
    made.graph.node[1].input[0] = "n"
    made.graph.node[1].output[0] = "k"
    made.graph.node.append(helper.make_node("Neg", ["k"], ["out"]))
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    expected = run(to_onnx(read_model(outer([new], "y", 17))), {"x": -x})
    got = run(to_onnx(read_model(made)), {"x": x})
    np.testing.assert_allclose(got[0], -expected[0], rtol=1e-6, atol=1e-6)


def test_a_group_normalization_of_an_older_function_is_refused_by_name() -> None:
    node = helper.make_node("GroupNormalization", ["x", "s", "s"], ["y"], "gn", num_groups=2)
    with pytest.raises(ModelError, match=r"node '.*' \(GroupNormalization\) of a function: opset must be"):
        read_model(called(node, 18, 21))
    untyped = called(node, 18, 21)
    untyped.graph.node.append(helper.make_node("Neg", ["out"], ["last"]))
    untyped.graph.output[0].name = "last"
    with pytest.raises(ModelError, match=r"node '.*' \(GroupNormalization\) of a function: opset must be"):
        read_model(untyped)
