"""Functions and branches: what has no end, or no reasonable size, is said before anything is unfolded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import (
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from compiler.reading import model, run
from openbpu.arch.errors import ModelError
from openbpu.arch.unfolding import MAX_CHAIN, MAX_NESTING, MAX_NODES
from openbpu.compiler.reader import read_model, to_onnx

OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid("my", 1)]
X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
FLAG = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])


def result(name: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])


def calls(*names: str) -> list[NodeProto]:
    """Nodes of `my`, one behind the other, from value "a" to value "b"."""
    values = ["a", *(f"t{i}" for i in range(len(names) - 1)), "b"]
    return [
        helper.make_node(name, [values[i]], [values[i + 1]], domain="my" if name[0] == "F" else "")
        for i, name in enumerate(names)
    ]


def function(name: str, nodes: Sequence[NodeProto]) -> FunctionProto:
    return helper.make_function("my", name, ["a"], ["b"], nodes, OPSETS)


def calling(functions: Sequence[FunctionProto]) -> ModelProto:
    """A model that calls the last of the functions."""
    node = helper.make_node(functions[-1].name, ["x"], ["y"], domain="my")
    graph = helper.make_graph([node], "g", [X], [result("y")])
    return helper.make_model(graph, functions=functions, opset_imports=OPSETS, ir_version=10)


def test_functions_that_double_are_refused_by_name() -> None:
    chain = [
        function("F0", calls("Relu")),
        *(function(f"F{i}", calls(*2 * [f"F{i - 1}"])) for i in range(1, 40)),
    ]
    with pytest.raises(
        ModelError, match=r"function 'my\.F15': the nodes its functions unfold to must be at mo"
    ):
        read_model(calling(chain))


def test_a_graph_that_calls_too_often_is_refused() -> None:
    many = calling([function("F0", calls(*["Relu", "Neg"] * (MAX_NODES // 200)))])
    many.graph.node[0].output[0] = "v0"
    for i in range(120):
        many.graph.node.append(helper.make_node("F0", [f"v{i}"], [f"v{i + 1}"], domain="my"))
    many.graph.output[0].name = "v120"
    with pytest.raises(
        ModelError, match=r"model: the nodes its functions unfold to must be at most 25,000, not"
    ):
        read_model(many)


def test_functions_that_copy_their_constants_are_counted_in_bytes() -> None:
    weight = numpy_helper.from_array(np.ones(1 << 18, np.float32))
    nodes = [helper.make_node("Constant", [], ["w"], value=weight), helper.make_node("Neg", ["a"], ["b"])]
    with pytest.raises(
        ModelError, match=r"function 'my\.F1': the bytes its functions unfold to must be at most"
    ):
        read_model(calling([function("F0", nodes), function("F1", calls(*["F0"] * 300))]))


def test_attributes_that_a_call_hands_over_are_counted_with_every_copy() -> None:
    taken = helper.make_node("Constant", [], ["w"])
    taken.attribute.add(name="value", ref_attr_name="w", type=4)
    inner = helper.make_function("my", "F0", ["a"], ["b"], [*300 * [taken], *calls("Relu")], OPSETS, ["w"])
    proto = calling([inner])
    weight = numpy_helper.from_array(np.ones(1 << 18, np.float32))
    proto.graph.node[0].attribute.append(helper.make_attribute("w", weight))
    with pytest.raises(
        ModelError, match="model: the bytes its functions unfold to must be at most 268,435,456"
    ):
        read_model(proto)


@pytest.mark.parametrize("inside", [False, True])
def test_a_function_that_calls_itself_is_refused_by_name(inside: bool) -> None:
    first, second = calls("F1"), calls("Relu", "F0")
    if inside:  # over the branch of an If
        branch = helper.make_graph(calls("F0")[:1], "branch", [], [result("b")])
        second = [helper.make_node("If", ["a"], ["b"], then_branch=branch, else_branch=branch)]
    with pytest.raises(
        ModelError, match=r"function 'my\.F[01]': what it calls must be other functions, not itself"
    ):
        read_model(calling([function("F0", first), function("F1", second)]))


def test_a_long_chain_of_functions_is_refused() -> None:
    count = MAX_CHAIN + 1
    chain = [function("F0", calls("Relu")), *(function(f"F{i}", calls(f"F{i - 1}")) for i in range(1, count))]
    assert read_model(calling(chain[:-1])).nodes
    with pytest.raises(ModelError, match="the functions it calls in a row must be at most 100, not more"):
        read_model(calling(chain))


def nested(depth: int) -> ModelProto:
    """Ifs within Ifs; made from the outside, as protobuf copies no deeper ones."""
    proto = helper.make_model(
        helper.make_graph([], "g", [X, FLAG], [result("y0")]), opset_imports=OPSETS[:1], ir_version=10
    )
    graph = proto.graph
    for level in range(depth):
        node = graph.node.add(op_type="If", input=["flag"], output=[f"y{level}"])
        other = node.attribute.add(name="else_branch", type=5)
        other.g.CopyFrom(helper.make_graph([helper.make_node("Neg", ["x"], ["e"])], "e", [], [result("e")]))
        graph = node.attribute.add(name="then_branch", type=5).g
        graph.name = f"b{level}"
        graph.output.add().CopyFrom(result(f"y{level + 1}"))
    graph.node.add(op_type="Relu", input=["x"], output=[f"y{depth}"])
    return proto


@pytest.mark.parametrize("depth", [MAX_NESTING + 1, 3000])
def test_graphs_deeper_than_a_file_can_hold_are_refused(depth: int) -> None:
    with pytest.raises(ModelError, match="graphs within graphs must be at most 32, not 33 or more"):
        read_model(nested(depth))


def branch(nodes: Sequence[NodeProto], out: str = "a") -> GraphProto:
    return helper.make_graph(nodes, "branch", [], [result(out)])


def choosing(body: GraphProto, known: bool) -> ModelProto:
    """An If of two equal branches, its condition a constant or an input."""
    node = helper.make_node("If", ["flag"], ["y"], then_branch=body, else_branch=body)
    flag = [numpy_helper.from_array(np.array(True), "flag")] if known else []
    graph = helper.make_graph([node], "g", [X] if known else [X, FLAG], [result("y")], flag)
    return helper.make_model(graph, opset_imports=OPSETS[:1], ir_version=10)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("loop", [[("a", "a")], [("b", "a"), ("a", "b")]])
def test_a_branch_that_reads_itself_is_refused(loop: list[tuple[str, str]], known: bool) -> None:
    nodes = [helper.make_node("Relu", [source], [made]) for source, made in loop]
    with pytest.raises(
        ModelError, match=r"\(Relu\): inputs must be made before it, not dependent on itself thr"
    ):
        read_model(choosing(branch(nodes), known))


def test_a_cycle_two_graphs_deep_is_refused() -> None:
    inner = branch([helper.make_node("Relu", ["a"], ["a"])])
    outer = branch([helper.make_node("If", ["flag"], ["a"], then_branch=inner, else_branch=inner)])
    with pytest.raises(ModelError, match="dependent on itself through 'a'"):
        read_model(choosing(outer, known=False))


def test_a_body_of_a_loop_that_makes_a_value_twice_is_refused() -> None:
    body = """body (int64 i, bool k, float[2] v) => (bool k2, float[2] w) {
        k2 = Identity (k) w = Relu (v) w = Neg (v) }"""
    text = f"g (float[2] x, int64 n, bool c) => (float[2] y) {{ y = Loop <body = {body}> (n, c, x) }}"
    with pytest.raises(ModelError, match="output 'w' must be made once"):
        read_model(model(text))


def test_a_branch_in_no_order_is_read_in_the_right_one() -> None:
    nodes = [helper.make_node("Relu", ["t"], ["a"]), helper.make_node("Neg", ["x"], ["t"])]
    graph = read_model(choosing(branch(nodes), known=True))
    assert [node.op for node in graph.nodes] == ["Neg", "Relu"]


def sparse(name: str, *indices: int) -> SparseTensorProto:
    values = numpy_helper.from_array(np.ones(len(indices), np.float32), name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(indices, np.int64), "at"), [2])


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("stored", ["initializer", "constant"])
def test_sparse_constants_of_a_branch_become_dense(stored: str, known: bool) -> None:
    nodes = [helper.make_node("Add", ["x", "s"], ["a"])]
    if stored == "constant":
        nodes.insert(0, helper.make_node("Constant", [], ["s"], sparse_value=sparse("", 1)))
    body = branch(nodes)
    if stored == "initializer":
        body.sparse_initializer.append(sparse("s", 1))
    feeds = {"x": np.array([1, 2], np.float32), "flag": np.array(True)}
    (got,) = run(to_onnx(read_model(choosing(body, known))), feeds)
    assert got.tolist() == [1, 3]


def test_external_data_of_a_branch_is_brought_inside(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.array([3, 4], np.float32).tobytes())
    weight = TensorProto(name="w", data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="w.bin")
    body = branch([helper.make_node("Add", ["x", "w"], ["a"])])
    body.initializer.append(weight)
    (tmp_path / "m.onnx").write_bytes(choosing(body, known=False).SerializeToString())
    (node,) = read_model(tmp_path / "m.onnx").nodes
    (inside,) = node.attrs["then_branch"].initializer
    assert numpy_helper.to_array(inside).tolist() == [3, 4]
