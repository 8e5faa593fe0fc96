"""Functions of an older opset than the model's are judged by what they mean in theirs, as compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from openbpu.compiler import compile as compile_
from openbpu.evaluation import verify
from openbpu.evaluation.analysis.cut import Graph
from openbpu.evaluation.reference.float64 import evaluate, opset_of
from openbpu.quantization.onnx import quantize
from openbpu.runtime import Session

SHAPE = [1, 4, 3, 3]


def model(op: str, arguments: int, attributes: dict[str, Any], opset: int, target: int) -> onnx.ModelProto:
    """A model of opset `target` around a function of `opset`; its weights are initializers without a type."""
    names = ["x", *"abcd"[:arguments]]
    body = helper.make_node(op, names, ["y"], **attributes)
    function = helper.make_function("my", "F", names, ["y"], [body], [helper.make_opsetid("", opset)])
    nodes = [
        helper.make_node("Relu", ["in"], ["r"]),
        helper.make_node("F", ["r", *names[1:]], ["z"], domain="my"),
        helper.make_node("Neg", ["z"], ["out"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("in", SHAPE), ("out", None))]
    weights = [helper.make_tensor(n, TensorProto.FLOAT, [4], [1.0, 0.5, 2.0, 1.5]) for n in names[1:]]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    ids = [helper.make_opsetid("", target), helper.make_opsetid("my", 1)]
    return helper.make_model(graph, functions=[function], opset_imports=ids, ir_version=10)


@pytest.mark.parametrize(
    ("imports", "opset"),
    [
        ({"": 17}, 17),
        ({"ai.onnx": 13}, 13),
        ({"my": 3, "": 11}, 11),
        ({"ai.onnx.ml": 4}, 1),  # of another domain
        ({"my": 3}, 1),
        ({}, 1),  # so old that it names none
    ],
)
def test_the_opset_is_that_of_the_default_domain_and_1_where_none_is_named(
    imports: dict[str, int], opset: int
) -> None:
    ids = [helper.make_opsetid(*named) for named in imports.items()]
    assert opset_of(onnx.ModelProto(opset_import=ids)) == opset
    assert opset_of(onnx.FunctionProto(opset_import=ids)) == opset


CASES = [
    ("Softmax", 0, {}, 11, 17),
    ("LogSoftmax", 0, {"axis": 2}, 11, 13),
    ("ReduceMean", 0, {"axes": [2]}, 11, 18),
    ("Unsqueeze", 0, {"axes": [0]}, 11, 13),
    ("Clip", 0, {"min": 0.25, "max": 0.5}, 9, 13),
    ("BatchNormalization", 4, {}, 11, 21),
    ("GroupNormalization", 2, {"num_groups": 2}, 21, 22),
]
X = {"in": np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)}


@pytest.mark.parametrize(("op", "arguments", "attributes", "opset", "target"), CASES)
def test_verify_finds_them_right(
    op: str, arguments: int, attributes: dict[str, Any], opset: int, target: int
) -> None:
    made = model(op, arguments, attributes, opset, target)
    assert verify(made, compile_(made, march="nash-e"), [X]).passed


@pytest.mark.parametrize(("op", "arguments", "attributes", "opset", "target"), CASES)
def test_quantize_and_analysis_read_them_alike(
    op: str, arguments: int, attributes: dict[str, Any], opset: int, target: int
) -> None:
    made = model(op, arguments, attributes, opset, target)
    meant = evaluate(made, X).outputs["out"]
    got = evaluate(quantize(made, [X]), X).outputs["out"]
    assert np.abs(got - meant).max() < 0.03 * np.abs(meant).max()
    cut = Graph(made, "model")
    assert np.allclose(evaluate(cut.model, X).outputs["out"], meant, atol=1e-6)


@pytest.mark.parametrize(("axis", "opset"), [(None, 11), (2, 11), (-1, 11), (None, 17), (1, 17)])
def test_a_hardmax_is_that_of_its_opset(axis: int | None, opset: int) -> None:
    made = model("Hardmax", 0, {} if axis is None else {"axis": axis}, opset, 17)
    assert np.array_equal(
        evaluate(made, X).outputs["out"], Session(compile_(made, march="nash-e")).run(X).outputs["out"]
    )
