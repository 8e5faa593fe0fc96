"""Facts about what `openbpu.quantization.onnx` refuses, and in which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper
from PIL import Image

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError, InternalError, ModelError, OpenbpuError, QuantizationError
from openbpu.quantization.onnx import load_calibration, quantize, quantize_random
from quantization.float_models import Array, float_model, noise, quantized, samples

NEG = "(float[1,4] x) => (float[1,4] y) { y = Neg(x) }"
TWO = "(float[1,4] p, float[1,4] q) => (float[1,4] y) { y = Add(p, q) }"
PICTURE = "(float[1,3,4,6] x) => (float[1,3,4,6] y) { y = Neg(x) }"


# --- the model -------------------------------------------------------------------------------------------


def test_quantized_model_is_refused() -> None:
    with pytest.raises(QuantizationError, match=r"must be float32, not quantized .*compile it as it is"):
        quantize_random(quantized(NEG))


def test_a_model_of_doubles_is_refused() -> None:
    model = float_model("(double[1,4] x) => (double[1,4] y) { y = Neg(x) }")
    with pytest.raises(QuantizationError, match="input 'x' must be float32, not double"):
        quantize_random(model)


def test_model_without_float_operators_is_refused_with_those_it_has() -> None:
    model = float_model("(int64[4] x) => (int64[4] y) { y = Neg(x) }")
    with pytest.raises(QuantizationError, match="operators that the BPU runs on float32 tensors, not Neg"):
        quantize_random(model)


def test_output_that_no_node_makes_is_refused() -> None:
    model = float_model("(float[1,4] x) => (float[1,4] y) { y = Neg(x) }")
    model.graph.output.add().CopyFrom(model.graph.output[0])
    model.graph.output[1].name = "z"
    with pytest.raises(ModelError, match=r"output 'z' must be made by a node .*, not dangling; export"):
        quantize(model, {"x": np.ones((1, 1, 4), np.float32)})


def test_model_of_the_newest_ir_version_is_quantized() -> None:
    model = float_model("(float[1,4] x) => (float[1,4] y) { y = Neg(x) }")
    model.ir_version = onnx.IR_VERSION
    made = quantize_random(model)
    assert made.ir_version <= onnx.IR_VERSION
    assert any(node.op_type == "QuantizeLinear" for node in made.graph.node)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"absent\.onnx: the model must be a readable file, not No such file"
    ):
        quantize_random(tmp_path / "absent.onnx")


@pytest.mark.parametrize("damage", ["text", "truncated"])
def test_damaged_file_is_no_model(tmp_path: Path, damage: str) -> None:
    data = float_model(NEG, {"w": noise(50)}).SerializeToString()
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"this is no model at all" if damage == "text" else data[:-30])
    with pytest.raises(OpenbpuError, match="bad"):
        quantize_random(path)


def test_opset_that_cannot_be_converted_is_refused() -> None:
    model = float_model("(float[1,4] x) => (float[1,4] y) { y = Scan9(x) }", opset=8)
    with pytest.raises(
        ModelError, match=r"its opset must be convertible to 13, not opset 8 .*opset 13 or newer"
    ):
        quantize_random(model)


def test_weights_in_another_file_are_refused_in_memory(tmp_path: Path) -> None:
    model = float_model("(float[1,64] x) => (float[1,64] y) { y = MatMul(x, w) }", {"w": noise(64, 64)})
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    quantize_random(path)
    with pytest.raises(ModelError, match="weights must be inside the ModelProto, not external data"):
        quantize_random(onnx.load(path, load_external_data=False))


def test_weights_with_nan_name_the_tensor() -> None:
    w = noise(4, 4)
    w[1, 1] = np.nan
    with pytest.raises(QuantizationError, match="constant 'w': every value must be finite"):
        quantize_random(float_model("(float[1,4] x) => (float[1,4] y) { y = MatMul(x, w) }", {"w": w}))


def test_infinite_activation_names_the_tensor_and_the_sample() -> None:
    model = float_model("(float[1,4] x) => (float[1,4] y) { l = Log(x) y = Softmax(l) }")
    data = np.ones((3, 4), dtype=np.float32)
    data[2, 1] = 0
    with pytest.raises(
        QuantizationError, match="tensor 'l', calibration sample 2: every value must be finite"
    ):
        quantize(model, {"x": data})


def test_model_that_onnx_runtime_cannot_load_is_reported_with_its_words() -> None:
    model = float_model("(float[1,4] x) => (float y) { t = Neg(x) y = acme.Thing(t) }")
    model.opset_import.append(helper.make_opsetid("acme", 1))
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot load it .*acme"):
        quantize(model, samples(model))


def test_output_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the output must be writable"):
        quantize_random(float_model(NEG), tmp_path / "absent" / "q.onnx")
    assert list(tmp_path.iterdir()) == []


def test_output_file_is_the_returned_model(tmp_path: Path) -> None:
    made = quantize(float_model(NEG), {"x": noise(2, 4)}, tmp_path / "q.onnx")
    assert onnx.load(tmp_path / "q.onnx") == made
    assert [p.name for p in tmp_path.iterdir()] == ["q.onnx"]


# --- calibration data ------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [{"x": np.zeros((0, 4), dtype=np.float32)}, []])
def test_no_samples_are_refused(data: dict[str, Array] | list[dict[str, Array]]) -> None:
    with pytest.raises(InputError, match="the number of samples must be at least 1, not 0"):
        quantize(float_model(NEG), data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"p": noise(1, 4), "z": noise(1, 4)}, "input names must be p, q, not 'z'"),
        ({"p": noise(1, 4)}, "input names must be p, q, not p; q is missing"),
        ({"p": noise(2, 4), "q": noise(3, 4)}, "the same for every input, not {'p': 2, 'q': 3}"),
        ({"p": noise(2, 4), "q": noise(2, 5)}, r"the shape of input 'q' must be \(1, 4\), not \(1, 5\)"),
        ({"p": noise(2, 4), "q": noise(2)}, r"the shape of input 'q' must be \(N, 1, 4\), not \(2,\)"),
        ({"p": noise(2, 4), "q": np.full((2, 4), "a")}, "the type of input 'q' must be float32, not <U1"),
        ({"p": noise(2, 4), "q": np.full((2, 4), np.nan)}, "every value of input 'q' must be finite"),
    ],
)
def test_data_that_does_not_fit_is_refused(data: dict[str, Array], message: str) -> None:
    with pytest.raises(InputError, match=message):
        quantize(float_model(TWO), data)


def test_samples_that_do_not_fill_the_batch_are_refused() -> None:
    model = float_model("(float[2,4] x) => (float[2,4] y) { y = Neg(x) }")
    quantize(model, {"x": noise(6, 4)})
    with pytest.raises(InputError, match="a multiple of 2 on its first axis"):
        quantize(model, {"x": noise(5, 4)})


def test_feeds_of_single_samples_are_taken_one_by_one() -> None:
    whole = quantize(float_model(NEG), {"x": noise(5, 4)})
    assert quantize(float_model(NEG), ({"x": noise(5, 4)[n : n + 1]} for n in range(5))) == whole


def test_integers_are_taken_for_floats() -> None:
    whole = np.arange(8, dtype=np.uint8).reshape(2, 4)
    assert quantize(float_model(NEG), {"x": whole}) == quantize(
        float_model(NEG), {"x": whole.astype(np.float32)}
    )


def test_symbolic_batch_is_fed_one_sample_at_a_time() -> None:
    text = "(float[N,4] x) => (float[N,3] y) { g = Gemm(x, w) y = Relu(g) }"
    model = quantize(float_model(text, {"w": noise(4, 3)}), {"x": noise(5, 4)})
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


# --- files -----------------------------------------------------------------------------------------------


def test_npz_of_two_inputs_needs_their_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", p=noise(2, 4), r=noise(2, 4))
    with pytest.raises(InputError, match=r"c\.npz: input names must be p, q, not 'r'"):
        load_calibration(tmp_path / "c.npz", float_model(TWO))


def test_folder_of_arrays_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for n in (2, 0, 1):
        np.save(tmp_path / f"{n}.npy", np.full(4, n, dtype=np.float32))
    data = load_calibration(tmp_path, float_model(NEG))
    assert data["x"][:, 0, 0].tolist() == [0, 1, 2]


def test_images_become_planes_in_the_range_0_to_1(tmp_path: Path) -> None:
    Image.new("RGB", (12, 8), (255, 0, 51)).save(tmp_path / "a.png")
    data = load_calibration(tmp_path, float_model(PICTURE))["x"]
    assert data.shape == (1, 1, 3, 4, 6)
    np.testing.assert_allclose(data[0, 0, :, 0, 0], [1, 0, 0.2], rtol=1e-6)


def test_images_are_normalized_on_request(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4), (255, 127, 0)).save(tmp_path / "a.png")
    data = load_calibration(tmp_path, float_model(PICTURE), scale=1, mean=127, std=(128, 1, 127))["x"]
    assert data[0, 0, :, 0, 0].tolist() == [1, 0, -1]


def test_one_channel_makes_images_grey(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4), (255, 255, 255)).save(tmp_path / "a.jpg")
    model = float_model("(float[1,1,4,6] x) => (float[1,1,4,6] y) { y = Neg(x) }")
    assert load_calibration(tmp_path, model)["x"].shape == (1, 1, 1, 4, 6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "a folder of samples must be one of .npy, .*not empty of them"),
        ({"a.png": b"no image"}, r"a\.png: the file must be an image"),
        ({"a.npy": b"no array"}, r"a\.npy: the file must be a NumPy array"),
    ],
)
def test_folder_without_usable_files_is_refused(
    tmp_path: Path, content: dict[str, bytes], message: str
) -> None:
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        load_calibration(tmp_path, float_model(PICTURE))


def test_images_need_an_input_of_one_or_three_planes(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"must be \(batch, 1 or 3, H, W\) or .* for images, not \(1, 4\)"):
        load_calibration(tmp_path, float_model(NEG))


@pytest.mark.parametrize("name", ["scale", "std"])
@pytest.mark.parametrize("value", [0, np.nan, np.inf, 1e-60])
def test_pixels_are_never_divided_by_zero(tmp_path: Path, name: str, value: float) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=f"{name} must be finite and not 0, not"):
        load_calibration(tmp_path, float_model(PICTURE), **{name: value})  # type: ignore[arg-type]


def test_a_picture_too_large_to_decode_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"a\.png: the file must be an image, not .*decompression bomb"):
        load_calibration(tmp_path, float_model(PICTURE))


def damaged(how: str) -> ModelProto:
    model = float_model("(float[1,4] x) => (float[1,4] y) { a = Div(x, w) y = Relu(a) }", {"w": noise(4)})
    if how == "an input too few":
        del model.graph.node[0].input[1]
    elif how == "a type that ONNX does not have":
        model.graph.initializer[0].data_type = 99
    elif how == "fewer bytes than elements":
        model.graph.initializer[0].raw_data = b"\0\0"
    else:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = -4
    return model


@pytest.mark.parametrize(
    "how",
    ["an input too few", "a type that ONNX does not have", "fewer bytes than elements", "a negative size"],
)
def test_what_onnx_refuses_is_no_error_of_openbpu(how: str) -> None:
    for attempt in (quantize_random, lambda m: quantize(m, {"x": noise(2, 1, 4)})):
        with pytest.raises(OpenbpuError):
            attempt(damaged(how))


def test_an_error_of_openbpu_is_not_blamed_on_a_valid_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openbpu.quantization.onnx.api.make_plan", None)
    with pytest.raises(InternalError, match="this is a bug of openbpu") as error:
        quantize_random(float_model(NEG))
    assert isinstance(error.value.__cause__, TypeError)


@pytest.mark.parametrize("data", [b"", b"PK no zip", b"\x80\x04\x95"])
def test_damaged_npz_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"calibration data must be an .npz file or a folder"):
        load_calibration(tmp_path / "c.npz", float_model(NEG))


@pytest.mark.parametrize("what", ["activation", "weight", "tail"])
def test_types_other_than_int8_and_int16_are_refused(what: str) -> None:
    with pytest.raises(QuantizationError, match=f"{what} must be int8 or int16, not float32"):
        quantize(float_model(NEG), {"x": noise(1, 4)}, **{what: DType.FLOAT32})  # type: ignore[arg-type]


def test_methods_that_do_not_exist_are_refused() -> None:
    with pytest.raises(QuantizationError, match="method must be max, percentile, mse, kl, mix, not 'mean'"):
        quantize(float_model(NEG), {"x": noise(1, 4)}, method="mean")  # type: ignore[arg-type]


def test_progress_is_reported_to_the_end() -> None:
    seen: list[tuple[str, int, int]] = []
    quantize(float_model(NEG), {"x": noise(3, 4)}, progress=lambda *call: seen.append(call))
    assert [call for call in seen if call[0] == "observe ranges"] == [
        ("observe ranges", n, 3) for n in (1, 2, 3)
    ]
    last = {stage: (done, total) for stage, done, total in seen}
    assert all(done == total for done, total in last.values())
