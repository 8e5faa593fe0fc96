"""Facts about where `openbpu.quantization.onnx` puts Quantize/Dequantize pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from onnx import ModelProto, TensorProto, helper

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx import quantize, quantize_random
from openbpu.quantization.onnx.classes import ROWS, TABLE, Kind
from quantization.float_models import (
    Array,
    float_model,
    node_of,
    noise,
    ops,
    pair_of,
    quantized,
    rounded,
    samples,
    stored,
)
from witness import ort

W = {"w": noise(4, 4, 3, 3), "b": noise(4), "w2": noise(4, 4, 3, 3, seed=1)}
IMAGE = "(float[1,4,8,8] x) => (float[1,4,8,8] y)"
CONV = "Conv <pads = [1, 1, 1, 1]>"


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


# --- units --------------------------------------------------------------------------------------------------

SCALARS = {
    "half": np.float32(0.5),
    "one": np.float32(1),
    "three": np.float32(3),
    "six": np.float32(6),
    "zero": np.float32(0),
    "root2": np.float32(np.sqrt(2)),
    "cube": np.float32(0.044715),
    "lead": np.float32(np.sqrt(2 / np.pi)),
}
UNITS = {
    "silu": "s = Sigmoid(c) y = Mul(c, s)",
    "hardswish": "y = HardSwish(c)",
    "hardswish as exported": "a = Add(c, three) k = Clip(a, zero, six) m = Mul(c, k) y = Div(m, six)",
    "gelu": "d = Div(c, root2) e = Erf(d) a = Add(e, one) m = Mul(c, a) y = Mul(m, half)",
    "gelu by tanh": """p = Pow(c, three) k = Mul(p, cube) a = Add(c, k) l = Mul(a, lead) t = Tanh(l)
                       o = Add(t, one) m = Mul(c, o) y = Mul(m, half)""",
    "mish": "p = Softplus(c) t = Tanh(p) y = Mul(c, t)",
    "logit": "n = Sub(one, c) d = Div(c, n) y = Tanh(d)",
    "guarded softplus": "g = Greater(c, six) p = Softplus(c) y = Where(g, c, p)",
    "elu by Where": "g = Greater(c, zero) e = Exp(c) o = Sub(e, one) y = Where(g, c, o)",
    "hard shrink": "l = Less(c, zero) g = Greater(c, one) o = Or(l, g) y = Where(o, c, zero)",
    "by a product": "g = Greater(c, one) k = Cast <to = 1> (g) y = Mul(c, k)",
}


@pytest.mark.parametrize("body", UNITS.values(), ids=UNITS.keys())
@pytest.mark.parametrize("activation", [DType.INT8, DType.INT16])
def test_unit_is_rounded_in_front_and_behind_only(body: str, activation: DType) -> None:
    model = quantized(f"{IMAGE} {{ c = {CONV}(x, w, b) {body} }}", {**W, **SCALARS}, activation=activation)
    assert rounded(model) == {"x", "c", "y"}


def test_tensor_of_a_unit_that_is_read_from_outside_starts_a_new_unit() -> None:
    text = """(float[1,8] x) => (float[1,8] y, float[1,6] z)
              { s = Sigmoid(x) t = Tanh(s) y = Mul(s, t) z = MatMul(s, w) }"""
    assert rounded(quantized(text, {"w": noise(8, 6)})) == {"x", "s", "y"}


@pytest.mark.parametrize(
    "body",
    [
        "g = Greater(x, k) y = Where(g, x, t) z = Where(g, t, u)",  # two tensors are chosen from
        "g = Greater(u, k) y = Where(g, x, k) z = Tanh(u)",
        "g = Cast <to = 9> (x) y = Where(g, x, k) z = Tanh(u)",  # no comparison
    ],
)
def test_what_chooses_otherwise_is_rounded_as_it_was(body: str) -> None:
    text = f"(float[1,8] x, float[1,8] u) => (float[1,8] y, float[1,8] z) {{ t = Tanh(x) {body} }}"
    assert {"x", "u", "y", "z"} <= rounded(quantized(text, {"k": np.float32(0.5)}))


def test_scalars_of_a_unit_stay_float() -> None:
    model = quantized("(float[1,8] x) => (float[1,8] y) { a = Add(x, k) y = Tanh(a) }", {"k": np.float32(3)})
    assert node_of(model, "a").input[1] == "k"


def test_constant_tensor_of_an_add_is_stored_as_int8() -> None:
    model = quantized("(float[1,8] x) => (float[1,8] y) { y = Add(x, k) }", {"k": noise(1, 8)})
    integers, scale, axis = stored(model, "y_QuantizeLinear_Input", 1)
    assert integers.dtype == np.int8
    assert (scale.shape, axis) == ((), None)


def test_casts_to_the_type_there_is_are_gone() -> None:
    text = """(float[1,8] x) => (float[1,8] y) {
        l = Less(x, k) m = Cast <to = 9> (l) c = Cast <to = 1> (x) y = Where(m, c, k)
    }"""
    model = quantized(text, {"k": np.float32(0.5)})
    assert (ops(model), rounded(model)) == (["Less", "Where"], {"x", "y"})


# --- movement -----------------------------------------------------------------------------------------------

MOVES = {
    "DepthToSpace": "DepthToSpace <blocksize = 2> (r)",
    "Expand": "Expand(r, shape)",
    "Flatten": "Flatten(r)",
    "Gather": "Gather <axis = 1> (r, index)",
    "MaxPool": "MaxPool <kernel_shape = [2, 2]> (r)",
    "Pad": "Pad(r, pads)",
    "Reshape": "Reshape(r, flat)",
    "Resize": 'Resize <mode = "nearest"> (r, , scales)',
    "Slice": "Slice(r, index, ends, index)",
    "SpaceToDepth": "SpaceToDepth <blocksize = 2> (r)",
    "Split": "Split <axis = 1> (r)",
    "Squeeze": "Squeeze(r, first)",
    "Tile": "Tile(r, repeats)",
    "Transpose": "Transpose <perm = [0, 2, 3, 1]> (r)",
    "Unsqueeze": "Unsqueeze(r, first)",
}
INDICES = {
    "shape": np.array([2, 4, 8, 8]),
    "index": np.array([1, 2]),
    "ends": np.array([3, 4]),
    "first": np.array([0]),
    "flat": np.array([1, -1]),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "repeats": np.array([1, 2, 1, 1]),
    "scales": np.array([1, 1, 2, 2], dtype=np.float32),
}


def test_every_operator_that_moves_values_is_tried() -> None:
    assert {row.op for row in ROWS if row.kind is Kind.KEEP or row.op in {"Pad", "Resize"}} == {
        *MOVES,
        "Identity",
    }


@pytest.mark.parametrize("move", MOVES)
def test_movement_keeps_the_scale(move: str) -> None:
    text = f"(float[1,4,8,8] x) => (float y) {{ r = Relu(x) y = {MOVES[move]} }}"
    model = quantized(text, INDICES)
    assert rounded(model) == {"x", "r", "y"}
    assert pair_of(model, "y") == pair_of(model, "r")


def test_padding_with_another_value_than_zero_has_a_scale_of_its_own() -> None:
    text = "(float[1,4,8,8] x) => (float[1,4,10,10] y) { r = Relu(x) y = Pad(r, pads, value) }"
    model = quantized(text, {**INDICES, "value": np.float32(9)})
    assert pair_of(model, "y")[0] > pair_of(model, "r")[0]


def test_every_output_of_a_split_is_rounded() -> None:
    text = "(float[1,4] x) => (float[1,2] y, float[1,2] z) { y, z = Split <axis = 1> (x) }"
    assert rounded(quantized(text)) == {"x", "y", "z"}


def test_concat_and_its_inputs_have_scales_of_their_own() -> None:
    text = """(float[1,4] x) => (float[1,8] y)
              { a = Sigmoid(x) k = Mul(x, three) y = Concat <axis = 1> (a, k) }"""
    model = quantized(text, SCALARS)
    assert len({float(pair_of(model, name)[0]) for name in ("a", "k", "x")}) == 3
    assert pair_of(model, "y")[0] == pair_of(model, "k")[0]  # the widest input's range


# --- what the BPU never runs --------------------------------------------------------------------------------


def test_cpu_operators_have_no_pairs_and_movement_between_them_has_none() -> None:
    text = """(float[1,4,8,8] x) => (float[1,2,4] y)
              { c = Conv <pads = [1, 1, 1, 1]> (x, w) f = Reshape(c, shape) v, i = TopK <axis = 2> (f, six)
                t = Transpose <perm = [0, 2, 1]> (v) y = GatherElements <axis = 1> (t, j) }"""
    indices = {"shape": np.array([1, 4, 64]), "six": np.array([6]), "j": np.zeros((1, 2, 4), dtype=np.int64)}
    model = quantized(text, {**W, **indices})
    assert rounded(model) == {"x", "c", "f"}


SCATTERED = """(float[1,4,8,8] x) => (float[4,64] y, float[2,64] z)
    { c = Conv <pads = [1, 1, 1, 1]> (x, w) f = Reshape(c, shape) s = Sigmoid(f)
      d = ScatterND(s, first, new) PART y = ScatterND(d, first, m) z = Tanh(m) }"""
ROWS_OF = {
    "shape": np.array([4, 64]),
    "first": np.array([[0], [1]]),
    "new": 300 * noise(2, 64),
    "zero": np.array([0]),
    "two": np.array([2]),
    "four": np.array([4]),
    "picked": np.array([2, 3]),
    "swap": np.array([2, 2, 64]),
    "flat": np.array([2, 64]),
}
PARTS = {
    "Slice": "p = Slice(d, two, four, zero) m = Neg(p)",
    "Split": "a, p = Split <axis = 0> (d) m = Neg(p)",
    "Gather": "p = Gather <axis = 0> (d, picked) m = Neg(p)",
    "moved": """t = Transpose <perm = [1, 0]> (d) p = Slice(t, two, four, one)
                r = Transpose <perm = [1, 0]> (p) m = Neg(r)""",
}


@pytest.mark.parametrize("part", PARTS)
def test_pair_stands_behind_the_movement_from_a_cpu_operator_that_another_one_reads_too(part: str) -> None:
    """One scale for all of `d`, where the CPU wrote 300, would be 200 steps of what the Slice takes."""
    model = quantized(SCATTERED.replace("PART", PARTS[part]), {**W, **ROWS_OF, "one": np.array([1])})
    made = rounded(model)
    assert "d" not in made
    assert "s" in made
    assert float(pair_of(model, "p")[0]) < 1 / 127
    assert node_of(model, "y").input[0] == "d"


def test_movement_from_a_cpu_operator_to_the_bpu_alone_runs_there() -> None:
    text = """(float[1,4,8,8] x) => (float[64,4] y)
        { c = Conv <pads = [1, 1, 1, 1]> (x, w) f = Reshape(c, shape) d = ScatterND(f, first, new)
          t = Transpose <perm = [1, 0]> (d) y = Tanh(t) }"""
    assert {"d", "t"} <= rounded(quantized(text, {**W, **ROWS_OF}))


def test_cpu_operators_read_graph_inputs_and_each_other_as_they_are() -> None:
    text = """(float[4,64] x) => (float[4,64] y, float[4,64] z)
        { d = ScatterND(x, first, new) y = ScatterND(d, first, new) a = Tanh(d) b = Tanh(x) z = Add(a, b) }"""
    model = quantized(text, ROWS_OF)
    assert {"x", "d"} <= rounded(model)
    assert (node_of(model, "d").input[0], node_of(model, "y").input[0]) == ("x", "d")
    assert node_of(model, "z_QuantizeLinear_Input").input[0] == "a_DequantizeLinear_Output"


def test_output_that_a_cpu_operator_makes_stays_as_it_is_beside_its_pair() -> None:
    text = "(float[4,64] x) => (float[4,64] d, float[4,64] z) { d = ScatterND(x, first, new) z = Tanh(d) }"
    model = quantized(text, ROWS_OF)
    assert node_of(model, "d").op_type == "ScatterND"
    assert "d" in rounded(model)


def test_movement_between_a_graph_input_and_the_cpu_has_no_pair() -> None:
    text = """(float[64,4] x, float[2,64] n) => (float[4,64] y)
        { t = Transpose <perm = [1, 0]> (x) u = Tanh(n) y = ScatterND(t, first, u) }"""
    assert rounded(quantized(text, ROWS_OF)) == {"n", "u"}


def test_integer_tensors_are_left_alone() -> None:
    text = """(float[1,8] x) => (int64[1,8] y) { r = Relu(x) c = Cast <to = 7> (r) y = Add(c, one) }"""
    assert rounded(quantized(text, {"one": np.array([1])})) == {"x", "r"}


@pytest.mark.parametrize(
    ("tail", "kind"),
    [
        ("y = ArgMax <axis = 1> (r)", TensorProto.INT64),
        ("i = ArgMax <axis = 1> (r) y = Identity (i)", TensorProto.INT64),
        ("y = Greater (r, x)", TensorProto.BOOL),
        ("y = Cast <to = 10> (r)", TensorProto.FLOAT16),
    ],
)
def test_an_output_that_is_declared_float_and_is_not_is_left_alone(tail: str, kind: int) -> None:
    made = quantize_random(float_model(f"(float[1,8] x) => (float y) {{ r = Relu(x) {tail} }}"))
    assert rounded(made) == {"x", "r"}
    assert made.graph.output[0].type.tensor_type.elem_type == kind
    ort.session(made)


def test_operators_of_other_domains_are_left_alone_and_those_behind_them_are_not() -> None:
    text = """(float[1,8] x) => (float[1,8] y)
              { r = Relu(x) g = com.microsoft.BiasGelu(r, k) h = com.microsoft.Gelu(g) y = Tanh(h) }"""
    model = float_model(text, {"k": noise(8)})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert rounded(quantize(model, samples(model))) == {"x", "r", "h", "y"}


def test_branches_read_the_rounded_tensors_around_them() -> None:
    text = """(float[1,8] x, bool flag) => (float[1,8] y) { r = Tanh(x)
              y = If (flag) <then_branch = t () => (float[1,8] p) { p = Neg(r) },
                             else_branch = e () => (float[1,8] q) { q = Abs(r) }> }"""
    model = quantize(float_model(text), [{"x": noise(1, 8), "flag": np.array(True)}])
    assert rounded(model) == {"x", "r"}
    branches = [a.g for a in node_of(model, "y").attribute]
    assert {b.node[0].input[0] for b in branches} == {"r_DequantizeLinear_Output"}


# --- the table ----------------------------------------------------------------------------------------------


def test_table_has_one_row_per_operator() -> None:
    assert len(TABLE) == len(ROWS)


def test_documentation_lists_every_operator_under_its_kind() -> None:
    page = (Path(__file__).parents[2] / "docs" / "post_training_quantization.md").read_text(encoding="utf-8")
    table = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    rows = dict(row for row in table if len(row) == 2)
    kinds = {
        Kind.MAC: "products",
        Kind.ELEMENTWISE: "element-wise",
        Kind.KEEP: "movement: the output has the scale of the input",
        Kind.QUANTIZED: "a scale on each side",
    }
    by_attribute = {row.op for row in ROWS if not isinstance(row.kind, Kind)}
    for kind, title in kinds.items():
        listed = {entry.split(" (")[0] for entry in rows[title].split(", ")}
        assert listed - by_attribute == {row.op for row in ROWS if row.kind is kind}
