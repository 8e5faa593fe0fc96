"""Unsigned codes become signed ones, and everybody who needs the unsigned ones still gets them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from compiler.passing import order, passed, proved
from compiler.reading import model
from openbpu.compiler.ir import Graph
from openbpu.compiler.passes.signed import sign_codes

CONSTANTS = (
    "float s = {0.5}, uint8 z = {130}, uint8 o = {7}, uint16 w = {40000}, "
    "float[3] p = {0.5, 1, 2}, uint8[3] n = {0, 128, 255}"
)


def text(body: str, inputs: str = "float[2,3] x", outputs: str = "float y", more: str = "") -> ModelProto:
    return model(f"g ({inputs}) => ({outputs}) <{CONSTANTS}{', ' if more else ''}{more}> {{ {body} }}")


def zero_points(graph: Graph) -> list[tuple[str, object]]:
    """Zero points of Q and DQ nodes that belong to no conversion (scale 1)."""
    found: list[tuple[str, object]] = []
    for node in graph.nodes:
        scale = graph.const(node.inputs[1]) if len(node.inputs) > 2 else None
        zero = graph.const(node.inputs[2]) if len(node.inputs) > 2 else None
        if scale is not None and zero is not None and scale.reshape(-1)[0] != 1:
            found.append((str(zero.dtype), zero.tolist()))
    return found


def dtypes(graph: Graph) -> set[str]:
    """Types of every computed value."""
    return {graph.values[o].dtype for n in graph.nodes for o in n.outputs}


def test_the_zero_point_moves_by_half_the_range() -> None:
    graph = proved(text("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)"), sign_codes)
    assert order(graph) == ["Q", "DQ"]
    assert zero_points(graph) == [("int8", 2)] * 2
    assert dtypes(graph) == {"int8", "float32"}


def test_uint16_becomes_int16() -> None:
    graph = proved(text("q = QuantizeLinear(x, s, w) y = DequantizeLinear(q, s, w)"), sign_codes)
    assert zero_points(graph) == [("int16", 40000 - 32768)] * 2


def test_a_zero_point_left_out_is_unsigned_zero() -> None:
    graph = proved(text("q = QuantizeLinear(x, s) y = DequantizeLinear(q, s)"), sign_codes)
    assert zero_points(graph) == [("int8", -128)] * 2


def test_zero_points_per_channel_move_one_by_one() -> None:
    body = "q = QuantizeLinear<axis = 1>(x, p, n) y = DequantizeLinear<axis = 1>(q, p, n)"
    assert zero_points(proved(text(body), sign_codes)) == [("int8", [-128, 0, 127])] * 2


def test_a_missing_zero_point_per_channel_is_zero_for_every_channel() -> None:
    body = "q = QuantizeLinear<axis = 1>(x, p) y = DequantizeLinear<axis = 1>(q, p)"
    assert zero_points(proved(text(body), sign_codes)) == [("int8", [-128] * 3)] * 2


def test_unsigned_weights_become_signed_ones() -> None:
    more = "uint8[2,3] c = {0, 1, 127, 128, 254, 255}"
    graph = proved(text("f = DequantizeLinear(c, s, z) y = Add(f, x)", more=more), sign_codes)
    codes = graph.const(graph.nodes[0].inputs[0])
    assert codes is not None
    assert codes.tolist() == [[-128, -127, -1], [0, 126, 127]]


@pytest.mark.parametrize(
    "move",
    [
        "b = Transpose(a)",
        "b = Flatten(a)",
        "b = Concat<axis = 0>(a, a)",
        "b = Slice(a, i, j)",
        "b = Gather(a, i)",
        "u = Unsqueeze(a, e) m = MaxPool<kernel_shape = [2]>(u) b = Squeeze(m, e)",
    ],
)
def test_operators_that_carry_codes_carry_signed_ones(move: str) -> None:
    more = "int64[1] i = {1}, int64[1] j = {2}, int64[1] e = {0}"
    graph = proved(
        text(f"a = QuantizeLinear(x, s, z) {move} y = DequantizeLinear(b, s, z)", more=more), sign_codes
    )
    assert "uint8" not in dtypes(graph)


def test_an_unsigned_input_of_the_model_keeps_its_type_and_is_converted_once() -> None:
    body = "f = DequantizeLinear(x, s, z) g = DequantizeLinear(x, s, o) y = Add(f, g)"
    graph = proved(text(body, "uint8[2,3] x"), sign_codes)
    assert graph.values["x"].dtype == "uint8"
    assert order(graph) == ["DQ", "Q", "DQ", "DQ", "Add"]


def test_an_unsigned_output_of_the_model_keeps_its_type() -> None:
    graph = proved(text("y = QuantizeLinear(x, s, z)", outputs="uint8 y"), sign_codes)
    assert graph.values["y"].dtype == "uint8"
    assert order(graph) == ["Q", "DQ", "Q"]


def test_unsigned_codes_that_are_an_output_and_are_read_as_well() -> None:
    body = "y = QuantizeLinear(x, s, z) f = DequantizeLinear(y, s, z) v = Neg(f)"
    graph = proved(text(body, outputs="uint8 y, float v"), sign_codes)
    assert (graph.values["y"].dtype, sorted(order(graph))) == ("uint8", ["DQ", "DQ", "Neg", "Q", "Q"])


def test_an_unsigned_input_that_is_carried_to_an_output_keeps_both_types() -> None:
    graph = proved(
        text("y = Transpose(x) f = DequantizeLinear(y, s, z) v = Neg(f)", "uint8[2,3] x", "uint8 y, float v"),
        sign_codes,
    )
    assert (graph.values["x"].dtype, graph.values["y"].dtype) == ("uint8", "uint8")


def test_an_operator_that_computes_with_the_codes_still_sees_unsigned_ones() -> None:
    body = "q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z) c = Cast<to = 1>(q) y = Add(f, c)"
    graph = proved(text(body), sign_codes)
    (cast,) = (n for n in graph.nodes if n.op == "Cast")
    assert graph.values[cast.inputs[0]].dtype == "uint8"


def test_codes_that_an_operator_computes_are_left_alone() -> None:
    body = "c = Cast<to = 2>(x) y = DequantizeLinear(c, s, z)"
    graph = proved(text(body), sign_codes)
    assert order(graph) == ["Cast", "DQ"]


def test_codes_that_meet_computed_bytes_are_left_alone() -> None:
    body = (
        "q = QuantizeLinear(x, s, z) c = Cast<to = 2>(x) b = Concat<axis = 0>(q, c) "
        "y = DequantizeLinear(b, s, z)"
    )
    assert order(proved(text(body), sign_codes)) == ["Q", "Cast", "Concat", "DQ"]


def test_bytes_that_are_no_codes_are_left_alone() -> None:
    graph = passed(text("a = Transpose(x) b = Cast<to = 1>(a) y = Exp(b)", "uint8[2,3] x"), sign_codes)
    assert order(graph) == ["Transpose", "Cast", "Exp"]


def test_signed_models_are_not_touched() -> None:
    proto = model(
        "g (float[2,3] x) => (float y) <float s = {0.5}, int8 z = {3}> "
        "{ q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"
    )
    graph = passed(proto)
    assert sign_codes(graph) is graph


def test_all_unsigned_codes_survive_the_conversions() -> None:
    """Every uint8 value through a converted input and a converted output."""
    body = "f = DequantizeLinear(x, s, z) y = QuantizeLinear(f, s, z)"
    proto = text(body, "uint8[256] x", "uint8 y")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 256
    graph = proved(proto, sign_codes)
    assert np.unique([graph.values[n].dtype for n in (*graph.inputs, *graph.outputs)]).tolist() == ["uint8"]


def test_an_input_that_is_an_output_too_stays_as_it_came() -> None:
    proto = text("f = DequantizeLinear (x, s, z) y = Relu (f)", "uint8[2,3] x", "float y, uint8[2,3] x")
    assert "x" not in {name for node in proved(proto, sign_codes).nodes for name in node.outputs}
