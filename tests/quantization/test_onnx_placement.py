"""Facts about where `openbpu.quantization.onnx` puts Quantize/Dequantize pairs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx import quantize_random
from quantization.float_models import (
    CONV,
    IMAGE,
    Array,
    W,
    constant,
    float_model,
    node_of,
    noise,
    ops,
    pair_of,
    quantized,
    rounded,
    stored,
)

# --- tails --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clamp", ["Relu(c)", "Clip(c, low, high)"])
def test_conv_and_the_clamp_behind_it_are_rounded_once(clamp: str) -> None:
    weights: dict[str, npt.ArrayLike] = {**W, "low": np.float32(0), "high": np.float32(6)}
    model = quantized(f"{IMAGE} {{ c = {CONV}(x, w, b) y = {clamp} }}", weights)
    assert rounded(model) == {"x", "y"}


def test_conv_and_leaky_relu_are_rounded_in_between() -> None:
    assert rounded(quantized(f"{IMAGE} {{ c = {CONV}(x, w, b) y = LeakyRelu(c) }}", W)) == {"x", "c", "y"}


def test_conv_read_twice_is_rounded() -> None:
    model = quantized(f"{IMAGE} {{ c = {CONV}(x, w) r = Relu(c) y = Add(c, r) }}", W)
    assert "c" in rounded(model)


def test_residual_add_takes_the_later_of_two_convolutions() -> None:
    text = f"{IMAGE} {{ a = {CONV}(x, w) c = {CONV}(x, w2) s = Add(c, a) y = Relu(s) }}"
    assert rounded(quantized(text, W)) == {"x", "a", "y"}


def test_broadcast_add_is_not_fused() -> None:
    text = """(float[1,4,8,8] x, float[1,4,1,1] z) => (float[1,4,8,8] y)
              { c = Conv <pads = [1, 1, 1, 1]> (x, w) y = Add(c, z) }"""
    assert rounded(quantized(text, W)) == {"x", "z", "c", "y"}


def test_add_of_two_tensors_takes_the_relu_behind_it() -> None:
    text = "(float[1,8] p, float[1,8] q) => (float[1,8] y) { s = Add(p, q) y = Relu(s) }"
    assert rounded(quantized(text)) == {"p", "q", "y"}


def test_matmul_of_three_axes_is_rounded_behind_its_bias() -> None:
    weights = {"w": noise(8, 6), "b": noise(6)}
    text = "(float[1,5,8] x) => (float[1,5,6] y) { m = MatMul(x, w) a = Add(b, m) y = Relu(a) }"
    model = quantized(text, weights)
    assert rounded(model) == {"x", "y"}
    integers, _, axis = stored(model, "a", 0)
    assert integers.dtype == np.int32
    assert integers.shape == (1, 1, 6)  # of a vector ONNX Runtime makes a Gemm, which it then refuses
    assert axis == 2


def test_matmul_of_two_axes_and_its_bias_become_a_gemm() -> None:
    text = "(float[3,8] x) => (float[3,6] y) { m = MatMul(x, w) y = Add(m, b) }"
    model = quantized(text, {"w": noise(8, 6), "b": noise(6)})
    assert ops(model) == ["Gemm"]


# --- outputs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        (f"{IMAGE} {{ y = {CONV}(x, w, b) }}", W),
        ("(float[1,8] x) => (float[1,6] y) { y = Gemm(x, w) }", {"w": noise(8, 6)}),
        ("(float[1,5,8] x, float[1,8,6] z) => (float[1,5,6] y) { y = MatMul(x, z) }", {}),
    ],
)
def test_product_at_the_output_stays_unrounded(text: str, weights: dict[str, Array]) -> None:
    assert "y" not in rounded(quantized(text, weights))


def test_output_that_is_also_read_is_rounded_for_both() -> None:
    text = """(float[1,4,8,8] x) => (float[1,4,8,8] c, float[1,4,8,8] y)
              { c = Conv <pads = [1, 1, 1, 1]> (x, w) y = Sigmoid(c) }"""
    model = quantized(text, W)
    assert rounded(model) == {"x", "c", "y"}
    assert node_of(model, "c").op_type == "DequantizeLinear"
    assert node_of(model, "y" + "_QuantizeLinear_Input").input[0] == "c"


def test_inputs_and_outputs_keep_names_shapes_and_order() -> None:
    text = "(float[1,8] p, float[1,8] q) => (float[1,8] y, float[1,8] z) { y = Mul(p, q) z = Add(p, q) }"
    model = quantized(text)
    assert [v.name for v in model.graph.input] == ["p", "q"]
    assert [v.name for v in model.graph.output] == ["y", "z"]
    assert all(len(v.type.tensor_type.shape.dim) == 2 for v in model.graph.output)


# --- the tail -----------------------------------------------------------------------------------------------

DETECTOR = f"""(float[1,4,8,8] x) => (float[1,128,2] y, float[1,4,8,8] z)
    {{ c = {CONV}(x, w, b) r = Relu(c) d = {CONV}(r, w2) t = Transpose <perm = [0, 2, 3, 1]> (d)
       f = Reshape(t, boxes) m = Mul(f, prior) y = Sigmoid(m) z = Tanh(r) }}"""
DECODER = {**W, "boxes": np.array([1, -1, 2]), "prior": noise(1, 128, 2, seed=2)}


def types(model: ModelProto, *tensors: str) -> str:
    return " ".join(pair_of(model, name)[1].dtype.name for name in tensors)


def test_results_behind_the_last_product_are_int16() -> None:
    model = quantized(DETECTOR, DECODER)
    assert types(model, "d", "t", "f", "m", "y") == "int16 int16 int16 int16 int16"
    assert stored(model, "m", 1)[0].dtype == np.int16
    assert types(model, "x", "r") == "int8 int8"
    assert all(stored(model, name, 1)[0].dtype == np.int8 for name in ("c", "d"))


def test_result_of_a_tensor_that_a_product_reads_too_is_int16_and_the_tensor_is_not() -> None:
    assert types(quantized(DETECTOR, DECODER), "r", "z") == "int8 int16"


def test_tail_can_be_int8() -> None:
    model = quantized(DETECTOR, DECODER, tail=DType.INT8)
    assert types(model, "d", "t", "m", "y", "z") == "int8 int8 int8 int8 int8"
    assert model.opset_import[0].version == 17


def test_random_ranges_make_no_other_tail() -> None:
    model = quantize_random(float_model(DETECTOR, DECODER))
    assert types(model, "r", "d", "y", "z") == "int8 int8 int8 int8"


def test_model_without_a_product_has_no_tail() -> None:
    assert (
        types(quantized("(float[1,8] x) => (float[1,8] y) { s = Exp(x) y = Tanh(s) }"), "x", "y")
        == "int8 int8"
    )


def test_movement_from_in_front_of_a_product_keeps_its_type() -> None:
    text = f"""(float[1,4,8,8] x) => (float[1,8,8,4] y, float[1,4,8,8] z)
        {{ c = {CONV}(x, w) r = Relu(c) y = Transpose <perm = [0, 2, 3, 1]> (r) z = {CONV}(r, w2) }}"""
    assert types(quantized(text, W), "r", "y") == "int8 int8"


def test_sum_of_a_result_and_a_tensor_in_front_of_a_product_rounds_neither_again() -> None:
    body = f"r = Relu(x) c = {CONV}(r, w) d = {CONV}(c, w2) s = Sigmoid(d) a = Add(s, r) y = Tanh(a)"
    model = quantized(f"{IMAGE} {{ {body} }}", W)
    assert types(model, "r", "c", "d", "s", "a", "y") == "int8 int8 int16 int16 int16 int16"
    assert sum(n.op_type == "QuantizeLinear" for n in model.graph.node) == len(rounded(model))


def test_divisor_is_int8_in_the_tail_too() -> None:
    text = f"{IMAGE} {{ c = {CONV}(x, w) d = {CONV}(x, w2) y = Div(c, d) }}"
    assert types(quantized(text, W), "c", "d", "y") == "int16 int8 int16"


def test_data_of_a_grid_sample_is_int8_in_the_tail_too() -> None:
    text = f"{IMAGE} {{ c = {CONV}(x, w) y = GridSample(c, g) }}"
    assert types(quantized(text, {**W, "g": noise(1, 8, 8, 2)}), "c", "y") == "int8 int16"


FLOW = (
    "f = Conv(x, small) t = Tanh(f) m = Mul(t, tenth) p = Transpose <perm = [0, 2, 3, 1]> (m)"
    f" g = Add(base, p) s = GridSample(x, g) y = {CONV}(s, w)"
)
FLOWS: dict[str, npt.ArrayLike] = {
    **W, "small": noise(2, 4, 1, 1), "tenth": np.float32(0.1), "base": np.tanh(noise(1, 8, 8, 2)),
}  # fmt: skip


@pytest.mark.parametrize("activation", [DType.INT8, DType.INT16])
def test_what_leads_to_a_grid_is_int16_back_to_the_last_product(activation: DType) -> None:
    model = quantized(f"{IMAGE} {{ {FLOW} }}", FLOWS, activation=activation)
    others = activation.value
    assert types(model, "x", "f", "m", "p", "g", "s") == f"{others} int16 int16 int16 int16 {others}"
    assert stored(model, "g", 0)[0].dtype == np.int16
    data, grid = (node_of(model, name) for name in node_of(model, "s").input)
    assert constant(model, data.input[2]).dtype == np.int8
    assert constant(model, grid.input[2]).dtype == np.int16


def test_a_divisor_of_a_grid_is_int8_and_its_dividend_int16() -> None:
    text = """(float[1,4,8,8] x, float[1,6,6,2] n, float[1,6,6,1] d) => (float[1,4,6,6] y)
        { s = Sigmoid(d) g = Div(n, s) y = GridSample(x, g) }"""
    assert types(quantized(text), "x", "n", "d", "s", "g") == "int8 int16 int8 int8 int16"
