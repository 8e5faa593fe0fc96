"""What depends on one int8 tensor alone is one table, with every rounding of the chain in it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.networks import Network
from compiler.passing import count, integers, order, settled
from compiler.reading import Array
from openbpu.compiler.ir import Graph
from openbpu.compiler.passes.compose import compose_tables, fuse_tables
from witness.builder import GraphBuilder, Style


def all_codes(opset: int = 20) -> tuple[GraphBuilder, str]:
    """A builder with one float tensor that takes the 256 values of an int8 tensor of scale 0.05."""
    b = GraphBuilder(opset)
    scale, zero = b.constant(np.float32(0.05)), b.constant(np.int8(0))
    x = b.input(np.arange(-128, 128).reshape(1, 256) * np.float32(0.05))
    q = b.name_parameters(b.node("QuantizeLinear", x, scale, zero), scale, zero)
    return b, b.dequantize(q)


def silu(b: GraphBuilder, x: str) -> str:
    return b.qdq(b.node("Mul", x, b.qdq(b.node("Sigmoid", x))))


def hard_swish(b: GraphBuilder, x: str) -> str:
    """As older exporters write it: x · clip(x + 3, 0, 6) / 6."""
    three, six = b.constant(3.0), b.constant(6.0)
    gate = b.qdq(b.node("Clip", b.qdq(b.node("Add", x, three)), b.constant(0.0), six))
    return b.qdq(b.node("Div", b.qdq(b.node("Mul", x, gate)), six))


def gelu(b: GraphBuilder, x: str) -> str:
    """As PyTorch exports it below opset 20, with a rounding behind every operator."""
    erf = b.qdq(b.node("Erf", b.qdq(b.node("Div", x, b.constant(np.sqrt(2.0))))))
    gate = b.qdq(b.node("Add", erf, b.constant(1.0)))
    return b.qdq(b.node("Mul", b.qdq(b.node("Mul", x, gate)), b.constant(0.5)))


def gelu_without_roundings(b: GraphBuilder, x: str) -> str:
    erf = b.node("Erf", b.node("Div", x, b.constant(np.sqrt(2.0))))
    return b.qdq(b.node("Mul", b.node("Mul", x, b.node("Add", erf, b.constant(1.0))), b.constant(0.5)))


def polynomial(b: GraphBuilder, x: str) -> str:
    """Operators of two tensors that are the same tensor."""
    square = b.qdq(b.node("Mul", x, x))
    return b.qdq(b.node("Max", b.qdq(b.node("Sub", square, x)), b.qdq(b.node("Min", x, square))))


def nested(b: GraphBuilder, x: str) -> str:
    for _ in range(4):
        x = silu(b, x)
    return x


CHAINS: dict[str, Callable[[GraphBuilder, str], str]] = {
    f.__name__: f for f in (silu, hard_swish, gelu, gelu_without_roundings, polynomial, nested)
}


def composed(b: GraphBuilder) -> Graph:
    return compose_tables(integers(b.model())[0])


def table_of(graph: Graph) -> Array:
    (lut,) = (n for n in graph.nodes if n.op == "Lut")
    table = graph.const(lut.inputs[1])
    assert table is not None
    return table


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_one_table_of_what_the_graph_says(name: str) -> None:
    b, x = all_codes()
    y = CHAINS[name](b, x)
    b.output(y)
    graph = composed(b)
    assert [op for op in order(graph) if op not in ("Q", "DQ")] == ["Lut"]
    rounded = b.values[y] / b.scale_of(y)
    np.testing.assert_array_equal(table_of(graph), np.rint(rounded).reshape(-1))


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_behind_a_convolution_is_part_of_it(name: str) -> None:
    b = Network((1, 3, 6, 6))
    b.finished(CHAINS[name](b, b.qdq(b.conv(b.x, 4))))
    graph = settled(b.model())
    assert [op for op in order(graph) if op != "Reshape"] == [
        "Quantize",
        "Transpose",
        "Conv",
        "Transpose",
        "Dequantize",
    ]
    (conv,) = (n for n in graph.nodes if n.op == "Conv")
    assert conv.inputs[5]


def test_the_table_keeps_the_names_of_the_whole_chain() -> None:
    b, x = all_codes()
    b.output(silu(b, x))
    (lut,) = (n for n in composed(b).nodes if n.op == "Lut")
    assert {o.op_type for o in lut.origins} == {"Sigmoid", "Mul"}


def test_what_others_read_on_the_way_is_a_table_of_its_own() -> None:
    b, x = all_codes()
    middle = b.qdq(b.node("Sigmoid", x))
    b.output(middle)
    b.output(b.qdq(b.node("Mul", x, middle)))
    graph = composed(b)
    assert count(graph, "Lut") == 2
    assert {n.inputs[0] for n in graph.nodes if n.op == "Lut"} == {graph.nodes[0].outputs[0]}


def test_two_tensors_are_no_chain() -> None:
    b = Network((1, 4, 6, 6))
    left, right = b.qdq(b.conv(b.x, 4)), b.qdq(b.conv(b.x, 4))
    b.finished(b.qdq(b.node("Mul", left, b.qdq(b.node("Sigmoid", right)))))
    assert count(composed(b), "Binary") == 1


def test_a_broadcast_of_the_tensor_with_itself_is_no_chain() -> None:
    """x [1, 4] times its own transpose [4, 1] is a matrix."""
    b = Network((1, 4))
    b.finished(b.qdq(b.node("Mul", b.x, b.qdq(b.node("Transpose", b.x), like=b.x))))
    assert count(composed(b), "Binary") == 1


def test_int16_chains_stay_operators() -> None:
    b = Network((1, 4), 21, Style("int16"))
    b.finished(b.silu(b.x))
    assert [count(composed(b), op) for op in ("SegmentLut", "Binary", "Lut")] == [1, 1, 0]


# --- tables behind operators ------------------------------------------------------------------------------


def behind(op: str) -> Network:
    """An operator with a table behind it."""
    b = Network((2, 6, 6))
    other = b.qdq(b.node("Softmax", b.x))
    if op == "Conv":
        y = b.node("MatMul", b.x, b.weight(b.rng.normal(size=(6, 6)), axis=1))
    else:
        y = b.node({"MatMul": "MatMul", "Binary": "Add"}[op], b.x, other)
    b.finished(b.qdq(b.node("Sigmoid", b.qdq(y))))
    return b


@pytest.mark.parametrize(("op", "index"), [("Conv", 5), ("MatMul", 2), ("Binary", 2)])
def test_a_table_is_fused_behind_the_operators_that_have_one(op: str, index: int) -> None:
    graph = settled(behind(op).model())
    assert count(graph, "Lut") == 0
    (node,) = (n for n in graph.nodes if n.op == op)
    table = graph.const(node.inputs[index])
    assert table is not None
    assert table.shape == (256,)


def test_the_fused_operator_keeps_the_names_of_both() -> None:
    (node,) = (n for n in settled(behind("Binary").model()).nodes if n.op == "Binary")
    assert [o.op_type for o in node.origins] == ["Add", "Sigmoid"]


def test_an_operator_whose_result_others_read_keeps_its_table_apart() -> None:
    b = Network((2, 6))
    y = b.qdq(b.node("Add", b.x, b.qdq(b.node("Softmax", b.x))))
    b.finished(b.qdq(b.node("Sigmoid", y)), b.qdq(b.node("ReduceMean", y)))
    assert count(settled(b.model()), "Lut") == 1


def test_a_result_of_the_model_keeps_its_table_apart() -> None:
    b = Network((2, 6))
    q = b.quantize(b.node("Add", b.x, b.qdq(b.node("Softmax", b.x))))
    b.finished(q, b.qdq(b.node("Sigmoid", b.dequantize(q))))
    assert count(settled(b.model()), "Lut") == 1


def test_a_second_table_stays_behind_the_first() -> None:
    """Where tables were not composed, the first takes the place and the second stays a node."""
    b = Network((2, 6))
    y = b.qdq(b.node("Add", b.x, b.qdq(b.node("Softmax", b.x))))
    b.finished(b.qdq(b.node("Tanh", b.qdq(b.node("Sigmoid", y)))))
    assert count(fuse_tables(integers(b.model())[0]), "Lut") == 1


def test_a_pool_has_no_table_to_fuse_into() -> None:
    b = Network((1, 4, 6, 6))
    pooled = b.qdq(b.node("AveragePool", b.x, kernel_shape=[2, 2]))
    b.finished(b.qdq(b.node("Sigmoid", pooled)))
    assert count(settled(b.model()), "Lut") == 1
