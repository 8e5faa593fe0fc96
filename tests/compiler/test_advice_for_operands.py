"""What the placement advises about operands can be done: pairs on floats, constants that could be some."""

from __future__ import annotations

import onnx
import pytest

from compiler.reading import model
from openbpu.compiler import check

HEAD = "<float s = {0.05}, int8 z = {0}> { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"


def graph(ends: str, body: str) -> onnx.ModelProto:
    return model(f"g (float[1,4,8,8] x{ends} {HEAD} {body} }}")


def row(proto: onnx.ModelProto, op: str) -> tuple[str, str]:
    return next((r.reason, r.fix) for r in check(proto, march="nash-e") if r.op == op and r.on == "CPU")


BOOLS = graph(", int64[1] i) => (bool y, bool n, float d)", "y = Greater(i, i) n = Not(y)")
FLOATS = graph(") => (bool n)", "f = Softmax(d) n = IsNaN(f)")
INDICES = graph(
    ") => (float[5] v, int64 y)",
    "five = Constant<value_ints = [5]>() one = Constant<value_ints = [-1]>() f = Reshape(d, one)"
    " v, i = TopK(f, five) y = Div(i, five)",
)
IMAGE = graph(
    ", uint8[1,4,8,8] u) => (float y)",
    "c = Cast<to = 1>(u) p = QuantizeLinear(c, s, z) y = DequantizeLinear(p, s, z)",
)
TOKENS = graph(
    ", int64[1,4,8,8] u) => (float y)",
    "c = Cast<to = 1>(u) p = QuantizeLinear(c, s, z) y = DequantizeLinear(p, s, z)",
)
DOUBLES = graph(") => (double y)", "c = Cast<to = 11>(d) y = Sqrt(c)")


@pytest.mark.parametrize(
    ("proto", "op", "reason", "fix"),
    [
        (BOOLS, "Greater", "'i' is int64, which has no scale", "leave it to the CPU"),
        (BOOLS, "Not", "the BPU makes none of its operands", "leave it to the CPU"),
        (FLOATS, "IsNaN", "its input 'f' of Softmax", "put a Quantize/Dequantize pair on that tensor"),
        (INDICES, "Div", "'y' is int64, which has no scale", "leave it to the CPU"),
        (IMAGE, "Cast", "'u' is uint8, which has no scale", "replace it by DequantizeLinear with scale 1"),
        (TOKENS, "Cast", "'u' is int64, which has no scale", "leave it to the CPU"),
        (DOUBLES, "Sqrt", "'y' is float64, which has no scale", "compute it in float32"),
    ],
)
def test_what_no_pair_can_stand_behind_gets_no_such_advice(
    proto: onnx.ModelProto, op: str, reason: str, fix: str
) -> None:
    found = row(proto, op)
    assert reason in found[0]
    assert found[1].startswith(fix)


def test_a_cast_of_an_image_as_the_advised_dequantize_leaves_only_the_sign_to_the_cpu() -> None:
    proto = graph(
        ", uint8[1,4,8,8] u) => (float y)",
        "o = Constant<value_float = 1.0>() b = Constant<value = uint8 {0}>() c = DequantizeLinear(u, o, b)"
        " p = QuantizeLinear(c, s, z) y = DequantizeLinear(p, s, z)",
    )
    on_cpu = [r for r in check(proto, march="nash-e") if r.on == "CPU"]
    assert [r.op for r in on_cpu] == ["DequantizeLinear"]
    assert "from uint8" in on_cpu[0].reason


@pytest.mark.parametrize(
    ("ends", "body", "reason", "fix"),
    [
        (
            ", int64[1] i) => (float y)",
            "y = Gather<axis = 1>(d, i)",
            "'i' is an input",
            "leave it to the CPU; ",
        ),
        (
            ", int64[1] i) => (float y)",
            "k = Abs(i) y = Gather<axis = 1>(d, k)",
            "'k' is computed in every run",
            "leave it to the CPU",
        ),
    ],
)
def test_what_is_given_with_every_run_is_not_asked_to_be_a_constant(
    ends: str, body: str, reason: str, fix: str
) -> None:
    found = row(graph(ends, body), "Gather")
    assert reason in found[0]
    assert found[1].startswith(fix)
    assert "constant" not in found[1]


HALVES = model(
    "g (float16[1,4] x) => (float16 y) <float s = {0.05}, int8 z = {0}> { a = Cast<to = 1>(x)"
    " q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z) t = Tanh(d) r = QuantizeLinear(t, s, z)"
    " e = DequantizeLinear(r, s, z) y = Cast<to = 10>(e) }"
)


def test_half_floats_at_the_ends_are_not_asked_to_be_quantized() -> None:
    on_cpu = [(r.op, r.reason, r.fix) for r in check(HALVES, march="nash-e") if r.on == "CPU"]
    assert [(op, fix) for op, _, fix in on_cpu] == [("Cast", "have float32 at the ends of the model")] * 2
    assert "'x' is float16" in on_cpu[0][1]
    assert "'y' is float16" in on_cpu[1][1]


def unknown() -> onnx.ModelProto:
    """A Relu behind an operator whose shape nothing infers."""
    made = graph(
        ") => (float y)",
        "l = Abs(d) i = QuantizeLinear(l, s, z) j = DequantizeLinear(i, s, z) r = Relu(j)"
        " p = QuantizeLinear(r, s, z) y = DequantizeLinear(p, s, z)",
    )
    node = next(n for n in made.graph.node if n.op_type == "Abs")
    node.op_type, node.domain, node.name = "Foo", "mine", "foo"
    made.opset_import.add(domain="mine", version=1)
    return made


def test_a_shape_that_nothing_infers_is_not_said_to_be_an_inputs() -> None:
    found = row(unknown(), "Relu")
    assert found[0] == "the shape of 'r' is not static"
    assert found[1].startswith("declare the shape of 'l', which Foo 'foo' makes, in the model's value_info")


def test_a_shape_that_was_declared_is_taken() -> None:
    proto = unknown()
    proto.graph.value_info.append(
        onnx.helper.make_tensor_value_info("l", onnx.TensorProto.FLOAT, [1, 4, 8, 8])
    )
    moves = {"QuantizeLinear", "DequantizeLinear"}
    on_cpu = [r.op for r in check(proto, march="nash-e") if r.on == "CPU" and r.op not in moves]
    assert on_cpu == ["Foo"]
