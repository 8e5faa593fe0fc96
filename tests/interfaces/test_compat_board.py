"""Facts about the board's interfaces: they give the simulator's numbers, and say what they do not take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interfaces.test_compat import DIGITS, run_script
from interfaces.test_compat_ends import picture
from openbpu.arch.errors import InputError, ModelError
from openbpu.compat.hb_runtime import HB_ONNXRuntime, HBRuntime
from openbpu.compat.hbdk import compile, convert, load, save  # noqa: A004 - the vendor's name
from openbpu.compat.hbm_runtime import HB_HBMRuntime, QuantType, hbDNNDataType
from openbpu.compat.pyeasy_dnn import load as load_dnn
from openbpu.runtime import Session

QDQ = DIGITS / "digits.q.onnx"


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, integers at both ends."""
    path = tmp_path_factory.mktemp("board") / "codes.hbm"
    module = load(QDQ)
    module[0].remove_io_op(["Quantize", "Dequantize"])
    compile(convert(module, "nash-e"), path)
    return path


@pytest.fixture(scope="module")
def nv12(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("board") / "nv12.bin"
    module = picture()
    (end,) = module[0].flatten_inputs
    end.insert_transpose([0, 3, 1, 2])
    module[0].flatten_inputs[0].insert_image_preprocess("yuvbt601full2rgb", 255, is_signed=False)
    module[0].flatten_inputs[0].insert_image_convert("nv12")
    compile(convert(module, "bayes-e"), path)
    return path


def test_a_board_script_gets_names_scales_and_the_simulators_numbers(tmp_path: Path, codes: Path) -> None:
    text = f"""
import json, numpy as np
from hbm_runtime import HB_HBMRuntime
model = HB_HBMRuntime({str(codes)!r})
name = model.model_names[0]
inputs, outputs = model.input_names[name], model.output_names[name]
x = np.arange(64, dtype=np.int8).reshape(model.input_shapes[name][inputs[0]])
model.set_scheduling_params(priority={{name: 7}}, bpu_cores={{name: [0]}})
y = model.run({{name: {{inputs[0]: x}}}})[name][outputs[0]]
quant = model.output_quants[name][outputs[0]]
print("GOT", json.dumps((y.astype(np.float32) * quant.scale).tolist()))
"""
    ran = run_script(tmp_path, text)
    assert ran.returncode == 0, ran.stderr
    session = Session(codes)
    x = np.arange(64, dtype=np.int8).reshape(session.inputs[0].shape)
    want = session.run({session.inputs[0].name: x}).outputs["logits"].astype(np.float32)
    want *= np.asarray(session.outputs[0].scale, np.float32)
    assert f"GOT {want.tolist()}" in ran.stdout


def test_what_a_model_says_of_itself(codes: Path) -> None:
    model = HB_HBMRuntime(str(codes))
    (name,) = model.model_names
    assert model.model_count == 1
    assert model.input_dtypes[name] == {"image": hbDNNDataType.S8}
    assert model.output_dtypes[name]["logits"].value in {"int16", "int32"}
    assert model.input_quants[name]["image"].quant_type is QuantType.SCALE
    assert model.input_quants[name]["image"].scale.dtype == np.float32
    assert model.input_shapes[name]["image"] == [1, 1, 8, 8]


def test_one_array_and_a_flat_mapping_do_for_one_model(codes: Path) -> None:
    model = HB_HBMRuntime([codes])
    x = np.ones((1, 1, 8, 8), np.int8)
    found = [model.run(x), model.run({"image": x}), model.run({model.model_names[0]: {"image": x}})]
    answers = [next(iter(f.values()))["logits"] for f in found]
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: m.run({"other": {"image": 0}}), "the model must be one of"),
        (lambda m: m.run(np.ones((1, 1, 8, 8), np.float32)), "dtype must be int8, not float32"),
        (lambda m: m.run({}, frobnicate=1), "an option must be one of"),
        (lambda m: m.set_scheduling_params(priority={"other": 1}), "the model must be one of"),
        (lambda m: m.set_scheduling_params(priority={m.model_names[0]: 256}), r"priority must be 0\.\.255"),
        (lambda m: m.set_scheduling_params(bpu_cores={m.model_names[0]: [1]}), r"core must be 0\.\.0"),
    ],
)
def test_what_does_not_fit_is_refused(codes: Path, call: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        call(HB_HBMRuntime(codes))


def test_two_models_of_one_name_are_refused(codes: Path) -> None:
    with pytest.raises(InputError, match="the names of models must be different"):
        HB_HBMRuntime([codes, codes])


def test_an_nv12_picture_is_one_flat_array(nv12: Path) -> None:
    (model,) = load_dnn(str(nv12))
    (end,) = model.inputs
    said = end.properties
    assert (said.tensor_type, said.layout, said.shape) == ("NV12", "NCHW", (1, 3, 8, 8))
    flat = np.random.default_rng(0).integers(0, 256, 8 * 8 * 3 // 2).astype(np.uint8)
    (out,) = model.forward(flat)
    planes = {"x_y": flat[:64].reshape(1, 8, 8, 1), "x_uv": flat[64:].reshape(1, 4, 4, 2)}
    want = Session(nv12).run(planes).outputs["y"]
    assert np.array_equal(out.buffer, want)
    assert np.ptp(out.buffer) > 0
    assert out.properties.shape == want.shape
    assert model.estimate_latency == Session(nv12).latency.one_thread_us / 1000


def test_codes_are_fed_in_any_shape_and_come_with_their_scales(codes: Path) -> None:
    model = load_dnn([codes])[0]
    flat = np.arange(64, dtype=np.int8)
    (out,) = model.forward([flat])
    want = Session(codes).run({"image": flat.reshape(1, 1, 8, 8)}).outputs["logits"]
    assert np.array_equal(out.buffer, want)
    assert out.properties.quanti_type == "SCALE"
    assert (
        out.properties.scale_data.tolist() == np.asarray(Session(codes).outputs[0].scale, np.float32).tolist()
    )


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        (np.zeros(64, np.float32), "dtype must be int8"),
        (np.zeros(63, np.int8), "the number of elements must be 64, not 63"),
        ([np.zeros(64, np.int8)] * 2, "the number of inputs must be 1, not 2"),
    ],
)
def test_forward_refuses_what_does_not_fit(codes: Path, arrays: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        load_dnn(codes)[0].forward(arrays)


def test_one_runtime_takes_every_stage(tmp_path: Path) -> None:
    save(convert(load(QDQ), "nash-e"), tmp_path / "m.bc")
    compile(load(tmp_path / "m.bc"), tmp_path / "m.hbm")
    x = np.load(DIGITS / "test.npz")["images"][:1] / np.float32(16)
    answers = []
    for stage in (QDQ, tmp_path / "m.bc", tmp_path / "m.hbm"):
        runtime = HBRuntime(str(stage))
        assert (runtime.input_names, runtime.output_names) == (["image"], ["logits"])
        assert runtime.input_types == ["float32"]
        answers.append(runtime.run(["logits"], {"image": x})[0])
    assert np.array_equal(answers[1], answers[2])
    assert np.allclose(answers[0], answers[1], atol=0.01)
    assert isinstance(HB_ONNXRuntime(model_file=str(QDQ)), HBRuntime)


def test_a_runtime_refuses_what_it_cannot_mean(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"must be \.onnx, \.bc, \.hbm or \.bin"):
        HBRuntime("m.pt")
    save(load(QDQ), tmp_path / "m.bc")
    with pytest.raises(ModelError, match="converted for a march"):
        HBRuntime(tmp_path / "m.bc")
    with pytest.raises(InputError, match="output_names must be among logits"):
        HBRuntime(QDQ).run(["x"], {})
    with pytest.raises(InputError, match="must be input_offset of 0 or 128, not 3"):
        HBRuntime(QDQ).run(None, {}, input_offset=3)


def test_pixels_in_bytes_are_what_an_onnx_model_reads_as_floats() -> None:
    pixels = np.load(DIGITS / "test.npz")["images"][:1]
    runtime = HB_ONNXRuntime(model_file=str(QDQ))
    bytes_ = runtime.run(None, {"image": pixels}, input_offset=128)[0]
    assert np.array_equal(bytes_, runtime.run(None, {"image": pixels.astype(np.float32)})[0])


def test_the_boards_packages_are_there_below_ours() -> None:
    from openbpu.compat import hobot_dnn, horizon_tc_ui

    assert hobot_dnn.pyeasy_dnn.load is load_dnn
    assert horizon_tc_ui.HBRuntime is HBRuntime
