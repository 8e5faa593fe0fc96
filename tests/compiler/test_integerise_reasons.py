"""Every node on the CPU has a reason that names what is in the way, and a fix."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from compiler.networks import Network
from compiler.one_operator import conv, ended
from compiler.reading import model
from openbpu.arch.march import get_march, with_values
from openbpu.arch.program import Placement
from openbpu.compiler import check
from openbpu.compiler import compile as compile_model
from openbpu.compiler.ir import Node, Origin
from openbpu.compiler.ops import Refused
from openbpu.compiler.passes.refusals import Refusals
from witness.builder import GraphBuilder, Style

PASSIVE = "is not quantized (passive quantization)"
IMAGE = (1, 4, 6, 6)


def rows(proto: onnx.ModelProto, march: str = "nash-e", **options: Any) -> dict[str, Placement]:
    """The placement of every node by operator (the last of each)."""
    return {r.op: r for r in check(proto, march=march, **options)}


def reason(b: GraphBuilder, op: str, march: str = "nash-e", **options: Any) -> str:
    found = rows(b.model(), march, **options)[op]
    assert found.on == "CPU"
    assert found.fix
    return found.reason


# --- passive quantization ---------------------------------------------------------------------------------


def test_a_float_input_names_what_makes_it() -> None:
    b = Network(IMAGE)
    b.finished(b.qdq(b.node("Softmax", b.node("Cos", b.x))))
    # Cos alone would be a table; in front of a Softmax nothing rounds it.
    assert reason(b, "Softmax") == f"its input 'cos0' of Cos 'Cos_0' {PASSIVE}"


def test_an_input_of_the_model_that_nobody_quantizes_is_named() -> None:
    b = Network(IMAGE)
    b.finished(b.qdq(b.node("Softmax", "input0")))
    assert reason(b, "Softmax") == f"its input 'input0' {PASSIVE}"


def test_a_float_output_is_named() -> None:
    b = Network(IMAGE)
    b.finished(b.node("Softmax", b.x))
    assert reason(b, "Softmax") == f"its output 'softmax0' {PASSIVE}"


def test_one_float_operand_of_two_is_named() -> None:
    b = Network(IMAGE)
    b.finished(b.qdq(b.node("Add", b.x, b.node("Softmax", b.x))))
    assert reason(b, "Add") == f"its input 'softmax0' of Softmax 'Softmax_0' {PASSIVE}"


def test_moves_of_floats_say_so() -> None:
    b = Network(IMAGE)
    b.finished(b.node("Transpose", b.node("Cos", b.node("Softmax", b.x))))
    assert PASSIVE in reason(b, "Transpose")


def test_a_function_of_one_tensor_is_refused_for_two() -> None:
    b = Network((1, 4))
    base = b.quantized_input((1, 4), low=0.5)
    ended(b, b.node("Pow", base, b.x))
    assert reason(b, "Pow") == "no BPU unit for Pow of several tensors"


def test_a_bool_input_of_the_model_needs_no_pair_of_its_own() -> None:
    proto = model(
        "g (bool[1,4] mask) => (float[1,4] y) <float s = {0.01}, int8 z = {0}> {"
        " a = Cast<to = 1>(mask) q = QuantizeLinear(a, s, z) y = DequantizeLinear(q, s, z) }"
    )
    assert {row.on for row in rows(proto).values()} == {"BPU"}


def test_a_float_model_is_told_to_be_quantized() -> None:
    proto = model("g (float[1,4] x) => (float y) { a = Relu(x) y = Softmax(a) }")
    for row in rows(proto).values():
        assert row.reason == "the model is not quantized"
        assert "openbpu quantize" in row.fix


def test_several_operators_between_two_roundings_say_so() -> None:
    b = Network(IMAGE)
    other = b.quantized_input(IMAGE)
    b.finished(b.qdq(b.node("Sigmoid", b.node("Add", b.x, other))))
    assert reason(b, "Sigmoid") == f"its input 'add0' of Add 'Add_0' {PASSIVE}"


# --- dtypes and scales ------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["Conv", "MatMul"])
def test_a_product_of_two_int16_tensors_prints_the_pairs_of_the_march(op: str) -> None:
    b = Network(IMAGE, 21, Style("int16"))
    w = b.weight(b.rng.normal(size=(4, 4, 1, 1) if op == "Conv" else (6, 6)), "int16")
    ended(b, b.node(op, b.x, w))
    text = reason(b, op)
    assert text.startswith("input × weight must be one of int8×int8, ")
    assert text.endswith(" on nash-e, not int16×int16")
    assert "ReduceSum" in rows(b.model())[op].fix


def test_an_activation_quantized_per_channel_is_refused() -> None:
    b = Network(IMAGE)
    scale, zero = b.constant(np.full(4, 0.01, np.float32)), b.constant(np.zeros(4, np.int8))
    q = b.node("QuantizeLinear", "input0", scale, zero, axis=1)
    x = b.node("DequantizeLinear", q, scale, zero, axis=1)
    ended(b, b.node("Softmax", x))
    assert reason(b, "Softmax") == f"its input '{x}' is quantized per channel"


def test_a_quotient_by_int16_names_the_type() -> None:
    b = Network(IMAGE, 21, Style("int16"))
    ended(b, b.node("Div", b.x, b.quantized_input(IMAGE, low=1, high=2)))
    assert "is int16 (allowed int8)" in reason(b, "Div")


def test_scales_that_fit_no_integer_arithmetic_are_refused() -> None:
    proto = model(
        "g (float[1,4] x, float[1,4] w) => (float y) "
        "<float s = {1000000000000}, float t = {0.0000000001}, int8 z = {0}> {"
        " q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z)"
        " p = QuantizeLinear(w, s, z) g = DequantizeLinear(p, s, z) a = Add(f, g)"
        " r = QuantizeLinear(a, t, z) y = DequantizeLinear(r, t, z) }"
    )
    assert rows(proto)["Add"].reason.startswith(
        "its scales do not fit the integer arithmetic: a requantization factor"
    )


# --- weights and constants --------------------------------------------------------------------------------


def test_a_float_weight_is_refused() -> None:
    b = Network(IMAGE)
    ended(b, b.node("Conv", b.x, b.constant(np.ones((4, 4, 1, 1)), "w")))
    assert reason(b, "Conv") == "its weight 'w0' is not quantized"


def test_a_computed_weight_is_refused() -> None:
    b = Network((4, 4, 1, 1))
    ended(b, b.node("Conv", b.x, b.x))
    assert reason(b, "Conv").endswith("is computed, not a constant")


def test_a_weight_quantized_along_its_inputs_is_refused() -> None:
    b = Network(IMAGE)
    ended(b, b.node("Conv", b.x, b.weight(b.rng.normal(size=(5, 4, 1, 1)), axis=1)))
    assert reason(b, "Conv") == "its weight is quantized along axis 1, not the output channels (axis 0)"


def test_a_computed_bias_is_refused() -> None:
    b = Network(IMAGE)
    w = b.weight(b.rng.normal(size=(4, 4, 1, 1)))
    ended(b, b.node("Conv", b.x, w, b.node("ReduceMax", b.x, b.constant(np.array([0, 2, 3])), keepdims=0)))
    assert reason(b, "Conv") == "its bias is not a constant"


REFUSED: dict[str, tuple[str, Any, str]] = {
    "cubic": (
        "Resize",
        lambda b: b.node("Resize", b.x, "", b.constant(np.array([1, 2], np.float32)), mode="cubic"),
        "mode cubic is not supported (nearest, linear)",
    ),
}


def _matrix(b: Network) -> str:
    return b.weight(b.rng.normal(size=(6, 6)))


@pytest.mark.parametrize("name", REFUSED)
def test_arguments_without_a_bpu_form_are_named(name: str) -> None:
    op, build, text = REFUSED[name]
    b = Network((3, 6), 21)
    ended(b, build(b))
    assert reason(b, op) == text


def around(operator: str, outputs: str = "float y", constants: str = "") -> onnx.ModelProto:
    """An operator from f to a, both quantized."""
    return model(
        f"g (float[1,4,6,6] x) => ({outputs}) <float s = {{0.5}}, int8 z = {{0}}{constants}> {{"
        f" q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z) {operator}"
        " r = QuantizeLinear(a, s, z) y = DequantizeLinear(r, s, z) }"
    )


@pytest.mark.parametrize(
    ("operator", "op", "text"),
    [
        ("a, i = MaxPool<kernel_shape = [2, 2]>(f)", "MaxPool", "it also returns indices"),
        ('a = Resize<mode = "linear", antialias = 1>(f, , n)', "Resize", "antialias is not supported"),
        ("a, m, d = LayerNormalization(f, w)", "LayerNormalization", "it also returns mean and deviation"),
        ('a = Pad<mode = "constant">(f, p)', "Pad", "negative pads"),
        (
            "i = ArgMax<axis = 2, keepdims = 0>(f) a = Gather<axis = 2>(f, i)",
            "Gather",
            "its input 'i' is computed",
        ),
    ],
)
def test_forms_without_a_bpu_form_are_named(operator: str, op: str, text: str) -> None:
    more = {"a, i": ", int64 i", "a, m": ", float m"}.get(operator[:4], "")
    constants = (
        ", int64[8] p = {0, 0, -1, 0, 0, 0, 0, 0}"
        ", float[4] n = {1, 1, 0.5, 0.5}, float[6] w = {1, 1, 1, 1, 1, 1}"
    )
    found = rows(around(operator, f"float y{more}", constants))[op]
    assert (found.on, text in found.reason) == ("CPU", True)


def test_a_shape_that_is_not_static_is_refused_with_the_node_that_makes_it() -> None:
    found = rows(around("n = NonZero(f) t = Transpose(n) b = Cast<to = 1>(t) a = Relu(b)"))["Relu"]
    assert found.reason == "the shape of 'a' is not static"
    assert found.fix.startswith("declare the shape of 'n', which NonZero 'NonZero_")


@pytest.mark.parametrize(
    ("quantize", "text"),
    [
        ("QuantizeLinear(a, d, z)", "the scale of its output 'a' is computed, negative or given in blocks"),
        ("QuantizeLinear<axis = 1>(a, p, o)", "its output 'a' is quantized per channel"),
        (
            "QuantizeLinear<output_dtype = 17>(a, s)",
            "its output 'a' is quantized to float8e4m3fn (allowed int8, int16)",
        ),
    ],
    ids=["computed scale", "per channel", "float8"],
)
def test_a_result_that_the_bpu_cannot_hold_is_named(quantize: str, text: str) -> None:
    scale = quantize.partition("a, ")[2].rstrip(")")
    axis = "<axis = 1>" if "axis" in quantize else ""
    proto = model(
        "g (float[1,4] x, float d) => (float y) <float s = {0.5}, int8 z = {0}, "
        "float[4] p = {1, 1, 1, 1}, int8[4] o = {0, 0, 0, 0}> {"
        " q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z) a = Softmax(f)"
        f" r = {quantize} y = DequantizeLinear{axis}(r, {scale}) }}"
    )
    assert rows(proto)["Softmax"].reason == text


# --- operators that the BPU, or this march, does not have -------------------------------------------------


def test_an_operator_without_a_row_has_no_unit() -> None:
    b = Network(IMAGE)
    b.finished(b.node("LRN", b.x, size=3))
    assert reason(b, "LRN") == "no BPU unit for this operator"


def test_an_operator_of_another_domain_has_no_unit() -> None:
    proto = model(
        "g (float[1,4] x) => (float[1,4] y) { y = com.microsoft.QuickGelu(x) }", domains='"com.microsoft": 1'
    )
    assert rows(proto)["QuickGelu"].reason == "no BPU unit for this operator"


def test_a_march_that_leaves_an_operator_to_the_cpu_says_how_to_ask() -> None:
    b = Network(IMAGE)
    ended(b, b.node("Softmax", b.x))
    proto = b.model()
    refused = rows(proto, "bayes-e")["Softmax"]
    assert (refused.reason, refused.fix) == (
        "Softmax runs on the CPU by default on bayes-e",
        "ask for the BPU with --bpu Softmax",
    )
    for wish in ("Softmax", "Softmax_0"):
        assert rows(proto, "bayes-e", bpu_ops=(wish,))["Softmax"].on == "BPU"


def test_what_asking_alone_would_not_cure_is_said_at_once() -> None:
    b = Network((1, 65536))
    ended(b, b.node("Softmax", b.x))
    proto = b.model()
    refused = rows(proto, "bayes-e")["Softmax"]
    broken, fix = "the axis must be 1..65535 long, not 65536", "normalize over fewer elements"
    assert refused.reason == f"Softmax runs on the CPU by default on bayes-e; besides, {broken}"
    assert refused.fix == f"{fix}, or leave it to the CPU, and ask for the BPU with --bpu Softmax"
    asked = rows(proto, "bayes-e", bpu_ops=("Softmax",))["Softmax"]
    assert (asked.reason, asked.fix) == (broken, f"{fix}, or leave it to the CPU")


def test_a_march_without_a_unit_cannot_be_asked() -> None:
    b = Network((1, 6))
    ended(b, b.node("PRelu", b.x, b.quantized_input((1, 6))))
    refused = rows(b.model(), "bayes-e", bpu_ops=("PRelu",))["PRelu"]
    assert (refused.on, refused.reason) == ("CPU", "bayes-e has no BPU unit for PRelu")


# --- what a refusal leaves behind -------------------------------------------------------------------------


def test_what_was_fused_behind_a_refused_operator_says_which() -> None:
    b = Network((1, 1, 40, 40))
    y = b.node("Conv", b.x, b.weight(np.ones((1, 1, 2, 2))), dilations=[20, 20])
    ended(b, b.node("Relu", y))
    refusal = "dilations must be 1..18, not 20×20"
    assert reason(b, "Conv") == refusal
    assert reason(b, "Relu") == f"it cannot be fused with Conv 'Conv_0': {refusal}"


def test_a_reason_is_passed_on_only_where_there_is_one() -> None:
    conv_node, relu = (Node(op, (), (), name=op, origins=(Origin(op, op),)) for op in ("Conv", "Relu"))
    refusals = Refusals()
    refusals.add_behind(conv_node, [relu])
    assert refusals.by_name == {}
    refusals.add(conv_node, Refused("it is too wide", "make it narrow"))
    refusals.add_behind(conv_node, [relu])
    behind = refusals.by_name["Relu"]
    assert behind.reason == "it cannot be fused with Conv 'Conv': it is too wide"
    assert behind.fix == "make it narrow"


def test_operators_around_a_refused_one_stay_on_the_bpu() -> None:
    b = Network(IMAGE)
    x = b.layer(b.x, 4)
    x = b.qdq(b.node("Resize", x, "", b.constant(np.array([1, 1, 2, 2], np.float32)), mode="cubic"))
    b.finished(b.layer(x, 4))
    found = check(b.model(), march="nash-e")
    assert [(r.op, r.on) for r in found if r.op in ("Conv", "Resize")] == [
        ("Conv", "BPU"),
        ("Resize", "CPU"),
        ("Conv", "BPU"),
    ]
    assert len({r.segment for r in found if r.op in ("Conv", "Resize")}) == 3


def test_a_node_on_the_bpu_has_no_reason() -> None:
    for row in check(conv(IMAGE, (4, 4, 3, 3)).model(), march="nash-e"):
        assert (row.on, row.reason, row.fix) == ("BPU", "", "")


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceSumSquare"])
def test_a_reduction_of_more_than_fits_on_chip_is_left_to_the_cpu(op: str) -> None:
    march = with_values(get_march("nash-e"), {"chip.chip_bytes": 1 << 12})
    for side, on in ((44, "BPU"), (64, "BPU" if op != "ReduceSumSquare" else "CPU"), (65, "CPU")):
        b = Network((1, 1, side, side - 1))
        ended(b, b.node(op, b.x, b.constant(np.array([2, 3]))))
        row = {r.op: r for r in compile_model(b.model(), march=march).placement}[op]
        assert row.on == on
        assert on == "BPU" or "to one element must be at most 4032, which fit on chip" in row.reason
