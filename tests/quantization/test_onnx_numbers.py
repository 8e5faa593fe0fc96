"""Facts about the scales and integers that `openbpu.quantization.onnx` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import QuantizationError
from openbpu.compiler import check
from openbpu.quantization.onnx import (
    METHODS,
    load_calibration,
    output_cosines,
    quantize,
    quantize_random,
    write,
)
from openbpu.quantization.onnx.judge import run_all
from openbpu.quantization.onnx.opset import raise_opset
from openbpu.quantization.onnx.prepare import read
from quantization.float_models import (
    Array,
    constant,
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

IMAGE = "(float[1,4,8,8] x) => (float[1,6,6,6] y)"
REPO = Path(__file__).parents[2]
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


# --- activations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "half"), [(DType.INT8, 127.5), (DType.INT16, 32767.5)])
def test_activation_scale_is_the_observed_maximum_over_half_the_range(dtype: DType, half: float) -> None:
    model = float_model("(float[1,4] x) => (float[1,4] y) { y = Neg(x) }")
    x = np.array([[1, 2, -60.5, 3], [0, 0, 1, 7]], dtype=np.float32)
    scale, zero = pair_of(quantize(model, {"x": x}, activation=dtype, asymmetric=False), "x")
    assert scale == np.float32(60.5 / half)
    assert zero.dtype == dtype.numpy
    assert zero == 0


@pytest.mark.parametrize("activation", [DType.INT8, DType.INT16])
def test_tensor_of_zeros_gets_the_scale_of_range_one(activation: DType) -> None:
    model = float_model("(float[1,4] x) => (float[1,4] y) { y = Neg(x) }")
    made = quantize(model, {"x": np.zeros((2, 4), dtype=np.float32)}, activation=activation)
    assert pair_of(made, "x")[0] == numerics.observed_scale(1.0, activation)


def test_int16_raises_the_opset_and_int8_does_not() -> None:
    text = "(float[1,4] x) => (float[1,4] y) { y = Neg(x) }"
    assert quantized(text, opset=14).opset_import[0].version == 14
    assert quantized(text, opset=14, activation=DType.INT16).opset_import[0].version == 21


# --- weights ------------------------------------------------------------------------------------------------

WEIGHTS = {
    "Conv": ("(float[1,4,8,8] x) => (float[1,6,6,6] y) { y = Conv(x, w, b) }", (6, 4, 3, 3), 0),
    "ConvTranspose": ("(float[1,4,8,8] x) => (float y) { y = ConvTranspose(x, w, b) }", (4, 6, 3, 3), 1),
    "grouped": (
        "(float[1,4,8,8] x) => (float y) { y = ConvTranspose <group = 2> (x, w, b) }",
        (4, 3, 3, 3),
        1,
    ),
    "Gemm": ("(float[1,8] x) => (float[1,6] y) { y = Gemm(x, w, b) }", (8, 6), 1),
    "transposed": ("(float[1,8] x) => (float[1,6] y) { y = Gemm <transB = 1> (x, w, b) }", (6, 8), 0),
    "MatMul": ("(float[1,5,8] x) => (float[1,5,6] y) { y = MatMul(x, w) }", (8, 6), 1),
}


@pytest.mark.parametrize("case", WEIGHTS)
@pytest.mark.parametrize("weight", [DType.INT8, DType.INT16])
def test_weights_have_a_scale_per_output_channel(case: str, weight: DType) -> None:
    text, shape, axis = WEIGHTS[case]
    w = noise(*shape)
    model = quantized(text, {"w": w, "b": noise(6)}, weight=weight)
    integers, scale, found = stored(model, "y", 1)
    others = tuple(i for i in range(w.ndim) if i != axis)
    assert found == axis
    np.testing.assert_array_equal(scale, numerics.observed_scale(np.abs(w).max(axis=others), weight))
    broadcast = scale.reshape([-1 if i == axis else 1 for i in range(w.ndim)])
    np.testing.assert_array_equal(integers, numerics.quantize(w, broadcast, 0, weight))


def test_matrices_of_a_product_per_sample_have_one_scale() -> None:
    """Neither the BPU nor ONNX Runtime's fusions take one per channel of them."""
    model = quantized("(float[2,5,8] x) => (float[2,5,6] y) { y = MatMul(x, w) }", {"w": noise(2, 8, 6)})
    assert (stored(model, "y", 1)[1].shape, stored(model, "y", 1)[2]) == ((), None)
    assert {row.on for row in check(model, march="nash-e")} == {"BPU"}


@pytest.mark.parametrize("case", [c for c in WEIGHTS if c != "MatMul"])
def test_bias_is_int32_in_steps_of_the_accumulator(case: str) -> None:
    text, shape, _ = WEIGHTS[case]
    bias = noise(6, seed=3)
    model = quantized(text, {"w": noise(*shape), "b": bias})
    integers, scale, _ = stored(model, "y", 2)
    per_channel = stored(model, "y", 1)[1]
    expected = pair_of(model, "x")[0] * np.tile(per_channel, 6 // per_channel.size)
    assert integers.dtype == np.int32
    np.testing.assert_array_equal(scale, expected)
    np.testing.assert_allclose(integers * scale.astype(np.float64), bias, atol=float(scale.max()))


PRODUCTS = (
    "(float[5,8] x) => (float[5,6] y) { y = Gemm(x, w, b) }",
    "(float[5,8] x) => (float[5,6] y) { y = Gemm <transB = 1> (x, v, b) }",
    "(float[5,8] x) => (float[5,6] y) { m = MatMul(x, w) y = Add(m, b) }",  # becomes a Gemm
    "(float[1,5,8] x) => (float[1,5,6] y) { m = MatMul(x, w) y = Add(m, b) }",
)


@pytest.mark.parametrize("text", PRODUCTS)
@pytest.mark.parametrize("shape", [(), (1,), (6,), (1, 1), (1, 6)])
def test_a_bias_of_any_shape_is_one_value_per_channel(text: str, shape: tuple[int, ...]) -> None:
    """A number alone, of any rank, counts for every channel: each has a step of its own."""
    w, bias = noise(8, 6), noise(*shape) if shape else np.array(noise(1)[0])
    model = quantized(text, {"w": w, "v": w.T.copy(), "b": bias})
    integers, scale = constant(model, "b_quantized"), constant(model, "b_scale")
    step = pair_of(model, "x")[0] * numerics.observed_scale(np.abs(w).max(axis=0))
    assert (integers.dtype.name, integers.size) == ("int32", 6)
    np.testing.assert_array_equal(scale, step)
    found = integers.reshape(6) * scale.astype(np.float64)
    np.testing.assert_allclose(found, np.broadcast_to(bias.reshape(-1), 6), atol=float(scale.max()))


@pytest.mark.parametrize("activation", [DType.INT8, DType.INT16])
def test_weights_that_vanish_beside_their_bias_get_a_scale_that_lets_it_fit(activation: DType) -> None:
    w, bias = noise(6, 4, 3, 3), noise(6)
    w[2] *= 1e-9
    model = quantized(f"{IMAGE} {{ y = Conv(x, w, b) }}", {"w": w, "b": bias}, activation=activation)
    integers, scale, _ = stored(model, "y", 2)
    np.testing.assert_allclose(integers * scale.astype(np.float64), bias, atol=float(scale.max()))
    assert abs(int(integers[2])) in range(2**29, 2**30 + 64)
    ordinary = numerics.observed_scale(np.abs(w).max(axis=(1, 2, 3)))
    np.testing.assert_array_equal(np.delete(stored(model, "y", 1)[1], 2), np.delete(ordinary, 2))


def test_bias_of_a_computed_weight_that_does_not_fit_stays_float() -> None:
    text = "(float[1,4,8,8] x, float[6,4,3,3] w) => (float y) { s = Mul(w, k) y = Conv(x, s, b) }"
    model = quantized(text, {"k": np.float32(1e-9), "b": noise(6)}, activation=DType.INT16)
    assert node_of(model, "y").input[2] == "b"


def test_channel_of_zero_weights_has_a_scale_and_keeps_its_bias() -> None:
    w = noise(6, 4, 3, 3)
    w[2] = 0
    model = quantized(f"{IMAGE} {{ y = Conv(x, w, b) }}", {"w": w, "b": noise(6)})
    integers, scale, _ = stored(model, "y", 1)
    assert scale[2] == np.float32(1 / 127.5)
    assert not integers[2].any()
    assert stored(model, "y", 2)[0][2] != 0


def test_single_value_is_stored_without_error() -> None:
    text = "(float[1,3,4,4] x) => (float[1,3,4,4] y) { y = Mul(x, k) }"
    k = np.array([0.3, -7, 2], dtype=np.float32).reshape(3, 1, 1)
    integers, scale, _ = stored(quantized(text, {"k": k}), "y", 1)
    np.testing.assert_allclose(integers.reshape(3) * scale, k.reshape(3), rtol=1e-6)


def test_weights_that_are_shared_are_stored_once() -> None:
    text = "(float[1,8] x) => (float[1,8] y) { h = MatMul(x, w) r = Tanh(h) y = MatMul(r, w) }"
    model = quantized(text, {"w": noise(8, 8)})
    assert node_of(model, "h").input[1] == node_of(model, "y").input[1]


# --- int16 --------------------------------------------------------------------------------------------------


def test_int16_and_int16_is_refused() -> None:
    with pytest.raises(QuantizationError, match=r"must be not both int16, .*keep the weights int8"):
        quantized(
            f"{IMAGE} {{ y = Conv(x, w) }}",
            {"w": noise(6, 4, 3, 3)},
            activation=DType.INT16,
            weight=DType.INT16,
        )


def test_product_of_two_int16_tensors_gets_its_right_side_as_int8() -> None:
    text = """(float[1,4,8] x, float[1,4,8] z) => (float[1,4,4] y)
              { a = Sigmoid(x) b = Sigmoid(z) t = Transpose <perm = [0, 2, 1]> (b) y = MatMul(a, t) }"""
    model = quantized(text, activation=DType.INT16)
    assert pair_of(model, "a")[1].dtype == np.int16
    assert pair_of(model, "b")[1].dtype == pair_of(model, "t")[1].dtype == np.int8


def test_right_side_that_is_also_read_in_int16_is_rounded_again_for_the_product() -> None:
    text = """(float[1,4,4] x) => (float[1,4,4] y, float[1,4,4] z)
              { a = Sigmoid(x) y = MatMul(a, a) z = Tanh(a) }"""
    model = quantized(text, activation=DType.INT16)
    left, right = (node_of(model, name) for name in node_of(model, "y").input)
    zeros = [constant(model, node.input[2]).dtype for node in (left, right)]
    assert zeros == [np.int16, np.int8]


def test_grid_of_a_grid_sample_is_int16() -> None:
    text = """(float[1,2,8,8] x, float[1,4,4,2] g) => (float[1,2,4,4] y) { y = GridSample(x, g) }"""
    model = quantized(text)
    assert (pair_of(model, "x")[1].dtype, pair_of(model, "g")[1].dtype) == (
        np.dtype("int8"),
        np.dtype("int16"),
    )


@pytest.mark.parametrize("opset", [25, 26, 27, 28])
def test_an_opset_that_onnx_runtime_does_not_know_goes_back(opset: int) -> None:
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip(f"this onnx has no opset {opset}")
    text = "(float[1,4,4,4] x) => (float y) { a = Conv(x, w) b = Celu(a) y = DepthToSpace<blocksize = 2>(b) }"
    weight = {"w": noise(4, 4, 1, 1)}
    made = quantized(text, weight, opset=opset)
    assert made.opset_import[0].version == min(opset, 26)
    older = quantized(text, weight, opset=25)
    assert [n.op_type for n in made.graph.node] == [n.op_type for n in older.graph.node]
    assert [t.raw_data for t in made.graph.initializer] == [t.raw_data for t in older.graph.initializer]


NORM = "(float[1,4,8,8] x) => (float y) { y = GroupNormalization <num_groups = 2> (x, g, b) }"


@pytest.mark.parametrize(
    ("given", "asked", "each"), [(18, 17, 1), (20, 17, 1), (18, 21, 2), (18, 23, 2), (20, 21, 2), (20, 23, 2)]
)
def test_group_normalization_has_parameters_per_channel_from_opset_21_on(
    given: int, asked: int, each: int
) -> None:
    """The converter of onnx does not repeat them."""
    net = raise_opset(read(float_model(NORM, {"g": noise(2), "b": noise(2, seed=1)}, opset=given)), asked)
    assert (net.nodes[0].op_type, net.opset) == ("GroupNormalization", max(given, asked))
    np.testing.assert_array_equal(net.consts[net.nodes[0].input[1]], noise(2).repeat(each))
    np.testing.assert_array_equal(net.consts[net.nodes[0].input[2]], noise(2, seed=1).repeat(each))


@pytest.mark.parametrize("asked", [21, 23])
def test_parameters_that_are_per_channel_are_not_repeated(asked: int) -> None:
    net = raise_opset(read(float_model(NORM, {"g": noise(4), "b": noise(4, seed=1)}, opset=21)), asked)
    np.testing.assert_array_equal(net.consts[net.nodes[0].input[1]], noise(4))


def test_group_normalization_of_two_groups_is_quantized_well() -> None:
    model = float_model(NORM, {"g": noise(2), "b": noise(2, seed=1)}, opset=18)
    made = quantize(model, samples(model), activation=DType.INT16)
    assert output_cosines(model, made, samples(model))["y"] > 0.9999


# --- the float model is the same after the rewrites ---------------------------------------------------------

REWRITES = {
    "batch norm": ("c = Conv(x, w, b) y = BatchNormalization(c, g, b, m, v)", ["Conv"]),
    "affine chain": ("c = Conv(x, w) n = Mul(c, k) a = Sub(k, n) y = Div(a, k)", ["Conv"]),
    "batch norm alone": ("n = BatchNormalization(x, g4, b4, m4, v4) y = Conv(n, w)", ["Conv", "Conv"]),
    "normalization": ("n = Sub(x, k4) d = Div(n, k4) y = Conv(d, w)", ["Conv", "Conv"]),
    "transposed": ("c = ConvTranspose <group = 2, pads = [2,2,2,2]> (x, t) y = Mul(c, k)", ["ConvTranspose"]),
    "sum": ("c = Conv(x, w) d = Conv(x, w2) y = Sum(c, d, c)", ["Conv", "Conv", "Add", "Add"]),
    "dropout": ("c = Conv(x, w) i = Identity(c) d = Dropout(i) y = Relu(d)", ["Conv", "Relu"]),
}  # fmt: skip
PARAMETERS = {
    "w": noise(6, 4, 3, 3),
    "w2": noise(6, 4, 3, 3, seed=5),
    "t": noise(4, 3, 3, 3),
    **{name: noise(6, seed=n) for n, name in enumerate("gbm")},
    **{f"{name}4": noise(4, seed=n) for n, name in enumerate("gbm")},
    "v": noise(6) ** 2 + 1,
    "v4": noise(4) ** 2 + 1,
    "k": noise(6, 1, 1) + 9,
    "k4": noise(1, 4, 1, 1) + 9,
}


@pytest.mark.parametrize("case", REWRITES)
def test_rewritten_model_has_fewer_operators_and_close_outputs(case: str) -> None:
    body, expected = REWRITES[case]
    model = float_model(f"{IMAGE} {{ {body} }}", PARAMETERS)
    made = quantize(model, samples(model))
    assert ops(made) == expected
    assert output_cosines(model, made, samples(model))["y"] > 0.999


def test_gemm_factors_go_into_weights_and_bias() -> None:
    text = "(float[1,8] x) => (float[1,6] y) { y = Gemm <alpha = 0.5, beta = 2.0> (x, w, b) }"
    model = float_model(text, {"w": noise(8, 6), "b": noise(6)})
    made = quantize(model, samples(model))
    assert not node_of(made, "y").attribute
    assert output_cosines(model, made, samples(model))["y"] > 0.999


# --- methods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [m for m in METHODS if m not in {"max", "mix"}])
def test_method_clips_a_far_outlier(method: str) -> None:
    model = float_model("(float[1,20000] x) => (float[1,20000] y) { y = Neg(x) }")
    x = np.clip(noise(1, 20000), -4, 4)
    x[0, 0] = 1000 if method == "percentile" else 10
    made = quantize(model, {"x": x}, method=method)  # type: ignore[arg-type]
    assert pair_of(made, "x")[0] * 127.5 < 0.95 * x[0, 0]


def test_mix_is_at_least_as_close_as_every_single_method() -> None:
    model = float_model(f"{IMAGE} {{ c = Conv(x, w) y = Tanh(c) }}", {"w": noise(6, 4, 3, 3)})
    data = samples(model)
    close = {m: output_cosines(model, quantize(model, data, method=m), data)["y"] for m in METHODS}
    assert close["mix"] == max(close.values())


# --- the file -----------------------------------------------------------------------------------------------


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    model = float_model(f"{IMAGE} {{ c = Conv(x, w) y = Tanh(c) }}", {"w": noise(6, 4, 3, 3)})
    for name in "ab":
        write(quantize(model, samples(model)), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("activation", [DType.INT8, DType.INT16])
def test_what_the_exporter_wrote_about_nodes_is_kept(activation: DType) -> None:
    model = float_model(f"{IMAGE} {{ c = Conv(x, w) y = Relu(c) }}", {"w": noise(6, 4, 3, 3)})
    for node in model.graph.node:
        node.name = f"/net/{node.op_type}"
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=f"['net', '{node.op_type}']")
    made = quantize(model, samples(model), activation=activation)
    kept = {n.name: n.metadata_props[0].value for n in made.graph.node if n.metadata_props}
    assert kept == {"/net/Conv": "['net', 'Conv']", "/net/Relu": "['net', 'Relu']"}


def test_names_of_pairs_come_from_their_tensors_and_are_unique() -> None:
    made = quantized(f"{IMAGE} {{ c = Conv(x, w) y = Tanh(c) }}", {"w": noise(6, 4, 3, 3)})
    names = [n.name for n in made.graph.node]
    assert {"x_QuantizeLinear", "c_DequantizeLinear", "w_DequantizeLinear"} <= set(names)
    assert len(names) == len(set(names))


# --- whole models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["light_squeezenet", "light_shufflenet", "light_inception_v1"])
def test_light_models_stay_close_to_float(name: str) -> None:
    path = LIGHT / f"{name}.onnx"
    model = onnx.load(path)
    known = {t.name for t in model.graph.initializer}
    (fed,) = [v.name for v in model.graph.input if v.name not in known]
    data: dict[str, Array] = {fed: noise(1, 3, 224, 224)}
    assert min(output_cosines(model, quantize(path, data), data).values()) > 0.999


@pytest.mark.parametrize("activation", [DType.INT8, DType.INT16])
@pytest.mark.parametrize("method", METHODS)
def test_digits_lose_no_accuracy(activation: DType, method: str) -> None:
    folder = REPO / "models" / "digits"
    with np.load(folder / "calibration.npz") as file:
        images = file["image"]
    made = quantize(folder / "digits.onnx", {"image": images}, activation=activation, method=method)  # type: ignore[arg-type]
    with np.load(folder / "test.npz") as file:
        tests, labels = file["images"].astype(np.float32) / 16, file["labels"]
    assert accuracy(made, tests, labels) >= 0.99


def accuracy(model: onnx.ModelProto, images: Array, labels: Array) -> float:
    feeds = [{"image": image[np.newaxis]} for image in images]
    logits = [result["logits"] for result in run_all(model, ["logits"], feeds)]
    return float((np.concatenate(logits).argmax(1) == labels).mean())


def test_random_ranges_need_no_data_and_survive_infinity() -> None:
    text = "(float[1,4,8,8] x) => (float y) { e = Exp(x) f = Exp(e) g = Exp(f) h = Exp(g) y = Conv(h, w) }"
    made = quantize_random(float_model(text, {"w": noise(6, 4, 3, 3)}))
    assert rounded(made) == {"x", "h"}
    assert all(np.isfinite(pair_of(made, name)[0]) for name in ("x", "h"))


def test_random_ranges_do_without_a_run_where_none_is_possible() -> None:
    text = "(float[1,4] x, int64[1] i) => (float y) { r = Reshape(x, i) y = Tanh(r) }"
    assert pair_of(quantize_random(float_model(text)), "y")[0] == np.float32(1 / 127.5)


def test_calibration_files_of_digits_are_read(tmp_path: Path) -> None:
    with np.load(REPO / "models" / "digits" / "calibration.npz") as file:
        np.savez(tmp_path / "c.npz", any_name=file["image"])
    data = load_calibration(tmp_path / "c.npz", REPO / "models" / "digits" / "digits.onnx")
    assert {name: array.shape for name, array in data.items()} == {"image": (64, 1, 8, 8)}
