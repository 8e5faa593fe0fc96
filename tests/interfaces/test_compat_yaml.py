"""Facts about the YAML of the vendor's tools: what comes of it, and that what is wrong names its line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from interfaces.vendor_tools import NET, WEIGHTS, Vendor, config, sample, vendor
from openbpu.compat.commands.tables import NODE_COLUMNS, OUTPUT_COLUMNS
from openbpu.quantization.onnx import is_quantized, quantize
from openbpu.runtime import Session
from quantization.float_models import float_model

__all__ = ["vendor"]


def test_a_yaml_file_becomes_the_vendors_files(vendor: Vendor, tmp_path: Path) -> None:
    ran = vendor("hb_compile", "-c", config())
    assert (ran.code, ran.err) == (0, "")
    stages = [f"net_{s}_model.onnx" for s in ("original_float", "optimized_float", "calibrated", "ptq")]
    written = {"net.hbm", "net.json", "net.html", "net_quantized_model.bc", *stages}
    assert {p.name for p in (tmp_path / "out").iterdir()} == written
    want = quantize(onnx.load("net.onnx"), {"x": [sample(0), sample(1)]}, judge=True)
    assert onnx.load("out/net_ptq_model.onnx") == want
    for column in (*NODE_COLUMNS, *OUTPUT_COLUMNS):
        assert column in ran.out
    row = next(line.split() for line in ran.out.splitlines() if line.startswith("head "))
    assert row[1:4] == ["BPU", "id(0)", "Conv"]
    assert 0.99 < float(row[4]) <= 1
    output = next(line.split() for line in ran.out.splitlines() if line.startswith("y "))
    assert float(output[1]) > 0.99
    assert 0 < float(output[2]) <= float(output[3]) <= float(output[4])
    y = Session("out/net.hbm").run({"x": sample(0)}).outputs["y"]
    plain = Session("out/net.hbm", mode="exact").run({"x": sample(0)}).outputs["y"]
    assert np.array_equal(y, plain)
    assert Session("out/net.hbm").program.name == "net"
    assert json.loads(Path("out/net.json").read_text())["summary"]["performance"]["FPS"] > 0


CAMERA = {
    "input_type_rt": "nv12",
    "input_type_train": "rgb",
    "input_layout_train": "NCHW",
    "norm_type": "data_mean_and_scale",
    "mean_value": "123.675 116.28 103.53",
    "scale_value": "0.01712 0.0175 0.01743",
}


def test_a_camera_model_takes_planes_and_computes_what_the_picture_gives(vendor: Vendor) -> None:
    for n in range(2):  # calibration data are pixels: the normalisation is in the model
        np.save(f"data/{n}.npy", np.random.default_rng(n).integers(0, 256, (1, 3, 8, 8)).astype(np.float32))
    ran = vendor(
        "hb_mapper",
        "makertbin",
        "--model-type",
        "onnx",
        "-c",
        config(input=CAMERA, model={"march": "bayes-e"}),
    )
    assert (ran.code, ran.err) == (0, "")
    session = Session("out/net.bin")
    assert [(t.name, t.shape) for t in session.inputs] == [("x_y", (1, 8, 8, 1)), ("x_uv", (1, 4, 4, 2))]
    y = np.random.default_rng(3).integers(0, 256, (1, 8, 8, 1)).astype(np.uint8)
    grey = np.full((1, 4, 4, 2), 128, np.uint8)  # no colour: red, green and blue are Y
    got = session.run({"x_y": y, "x_uv": grey}).outputs["y"]
    from openbpu.runtime.reference import Reference

    pixels = np.broadcast_to(y.transpose(0, 3, 1, 2).astype(np.float32), (1, 3, 8, 8))
    want = Reference("out/net_quantized_model.onnx").run({"x": np.ascontiguousarray(pixels)})["y"]
    assert np.abs(got - want).max() < 0.05 * np.abs(want).max()


@pytest.mark.parametrize(
    ("rt", "train", "turned"), [("rgb", "rgb", False), ("bgr", "rgb", True), ("yuv444", "yuv444", False)]
)
def test_pixels_in_bytes(vendor: Vendor, rt: str, train: str, turned: bool) -> None:
    given = CAMERA | {"input_type_rt": rt, "input_type_train": train}
    assert vendor("hb_compile", "-c", config(input=given)).code == 0
    session = Session("out/net.hbm")
    pixels = np.random.default_rng(3).integers(0, 256, (1, 8, 8, 3)).astype(np.uint8)
    got = session.run({"x": pixels}).outputs["y"]
    from openbpu.runtime.reference import Reference

    seen = pixels[..., ::-1] if turned else pixels
    feed = np.ascontiguousarray(seen.transpose(0, 3, 1, 2).astype(np.float32))
    want = Reference("out/net_ptq_model.onnx").run({"x": feed})["y"]
    assert np.abs(got - want).max() < 0.05 * np.abs(want).max()


def test_raw_files_and_pictures_calibrate_as_arrays_do(vendor: Vendor, tmp_path: Path) -> None:
    pixels = [np.random.default_rng(n).integers(0, 256, (8, 8, 3)).astype(np.uint8) for n in range(2)]
    found = []
    for kind in ("npy", "raw", "png"):
        folder = tmp_path / kind
        folder.mkdir()
        for n, one in enumerate(pixels):
            chw = one.transpose(2, 0, 1).astype(np.float32)
            if kind == "npy":
                np.save(folder / f"{n}.npy", chw[None])
            elif kind == "raw":
                (folder / f"{n}.rgb").write_bytes(chw.tobytes())
            else:
                Image.fromarray(one).save(folder / f"{n}.png")
        ran = vendor(
            "hb_compile", "-c", config(input=CAMERA, calibration={"cal_data_dir": kind}), "--skip", "export"
        )
        assert (ran.code, ran.err) == (0, "")
        found.append(Path("out/net_ptq_model.onnx").read_bytes())
    assert found[0] == found[1] == found[2]


def test_nodes_are_where_and_what_they_are_asked_to_be(vendor: Vendor) -> None:
    given = {"node_info": {"head": {"ON": "CPU"}, "stem": {"InputType": "int16"}}}
    ran = vendor("hb_compile", "-c", config(model=given))
    assert ran.code == 0
    rows = {
        line.split()[0]: line.split() for line in ran.out.splitlines() if line.startswith(("head ", "stem "))
    }
    assert rows["head"][1] == "CPU"
    assert rows["stem"][1] == "BPU"
    assert rows["stem"][-1].startswith("int16/")
    ran = vendor(
        "hb_compile",
        "-c",
        config(calibration={"run_on_cpu": "act;head", "optimization": "set_all_nodes_int16"}),
    )
    assert (
        sum(
            line.split()[1:2] == ["CPU"]
            for line in ran.out.splitlines()
            if line.startswith(("head ", "act "))
        )
        >= 1
    )


def test_a_quant_config_and_its_file_are_heard(vendor: Vendor) -> None:
    wanted = {"model_config": {"all_node_type": "int16"}}
    Path("q.json").write_text(json.dumps(wanted))
    made = []
    for value in (wanted, "q.json"):
        assert vendor("hb_compile", "-c", config(calibration={"quant_config": value})).code == 0
        made.append(Path("out/net.hbm").read_bytes())
    assert made[0] == made[1]
    kinds = {i.data_type for i in onnx.load("out/net_ptq_model.onnx").graph.initializer}
    assert onnx.TensorProto.INT16 in kinds


def test_softmax_is_asked_onto_the_bpu_of_bayes(vendor: Vendor) -> None:
    text = NET.replace("y = Conv (r, v)", "z = Conv (r, v)  y = Softmax <axis = 1> (z)")
    onnx.save(float_model(text, WEIGHTS), "net.onnx")
    words = "set_Softmax_input_int8,set_Softmax_output_int8"
    on = []
    for given in ({}, {"optimization": words}):
        ran = vendor("hb_mapper", "makertbin", "-c", config(model={"march": "bayes-e"}, calibration=given))
        assert ran.code == 0, ran.err
        on.append(next(line.split()[1] for line in ran.out.splitlines() if " Softmax " in line))
    assert on == ["CPU", "BPU"]


def test_ends_are_stripped_and_outputs_cut(vendor: Vendor) -> None:
    given = {"remove_node_type": "Quantize;Dequantize", "output_nodes": "act"}
    assert vendor("hb_compile", "-c", config(model=given)).code == 0
    session = Session("out/net.hbm")
    assert [t.dtype.numpy.kind for t in (*session.inputs, *session.outputs)] == ["i", "i"]
    assert session.outputs[0].shape == (1, 8, 8, 8)


def test_nodes_are_removed_by_the_vendors_names_too(vendor: Vendor) -> None:
    ran = vendor("hb_compile", "-c", config(model={"remove_node_name": "x_HzQuantize;nobody_HzDequantize"}))
    assert "removed at the ends: x_QuantizeLinear" in ran.out
    assert Session("out/net.hbm").inputs[0].dtype.numpy == np.int8


def test_two_inputs_have_a_value_each(vendor: Vendor, tmp_path: Path) -> None:
    text = """(float[1,3,8,8] x, float[1,8,1,8] s) => (float[1,4,8,8] y)
{ c = Conv <pads = [1,1,1,1]> (x, w, b)  r = Add (c, s)  y = Conv (r, v) }"""
    onnx.save(float_model(text, WEIGHTS), "net.onnx")
    (tmp_path / "other").mkdir()
    for n in range(2):
        np.save(f"other/{n}.npy", np.random.default_rng(n).normal(size=(1, 8, 1, 8)).astype(np.float32))
    given = {
        "input_name": "s;x",
        "input_shape": "1x8x1x8;1x3x8x8",
        "input_type_rt": "featuremap;featuremap",
        "input_type_train": "featuremap;featuremap",
    }
    ran = vendor("hb_compile", "-c", config(input=given, calibration={"cal_data_dir": "other;data"}))
    assert (ran.code, ran.err) == (0, "")
    assert {t.name for t in Session("out/net.hbm").inputs} == {"x", "s"}
    given["input_layout_rt"] = "NHWC;NCHW"  # of s, and of x
    assert (
        vendor("hb_compile", "-c", config(input=given, calibration={"cal_data_dir": "other;data"})).code == 0
    )
    assert {t.name: t.shape for t in Session("out/net.hbm").inputs} == {"x": (1, 3, 8, 8), "s": (1, 1, 8, 8)}
    assert (
        vendor("hb_compile", "-m", "net.onnx", "--march", "nash-e", "--fast-perf", "-i", "s", "1x8x1x8").code
        == 0
    )


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        ({"compiler": {"optimise_level": "O2"}}, "must be one of .*did you mean 'optimize_level'"),
        ({"compiler": {"optimize_level": "O3"}}, "must be O0, O1 or O2 for nash-e, not 'O3'"),
        ({"compiler": {"core_num": 2}}, r"core_num must be 1\.\.1 for nash-e, not 2"),
        (
            {"compiler": {"compile_mode": "fast"}},
            "must be one of latency, bandwidth, balance, not 'fast'",
        ),
        ({"compiler": {"compile_mode": "balance"}}, "balance_factor must be given .*missing"),
        ({"compiler": {"input_source": {"x": "resizer"}}}, "input_source must be ddr or pyramid"),
        ({"model": {"march": "nash-x"}}, "model_parameters.march must be one of"),
        ({"model": {"march": ""}}, "model_parameters.march must be one of .*, not missing"),
        (
            {"model": {"onnx_model": "none.onnx"}},
            "must be an ONNX file, not 'none.onnx', which is missing",
        ),
        ({"model": {"caffe_model": "x"}}, "must be left out"),
        ({"model": {"node_info": {"haed": {"ON": "BPU"}}}}, "the nearest is 'head'"),
        ({"input": {"input_name": "z"}}, "input_name must be among x, not 'z'"),
        ({"input": {"input_type_rt": "nv21"}}, "must be nv12, yuv444, rgb, bgr, gray or featuremap"),
        (
            {"input": {"input_type_rt": "nv12"}},
            "must be what input_type_train 'featuremap' can be made of",
        ),
        ({"input": CAMERA | {"mean_value": "1 2"}}, "mean_value must be one number or 3"),
        (
            {"input": CAMERA | {"scale_value": "0 1 1"}},
            "scale_value must be finite and not 0",
        ),
        ({"input": {"norm_type": "data_mean"}}, "norm_type must be given with mean_value"),
        ({"input": {"separate_batch": True}}, "separate_batch must be False"),
        ({"calibration": {"cal_data_dir": "nowhere"}}, "must be a folder, not 'nowhere'"),
        (
            {"calibration": {"cal_data_dir": ""}},
            "cal_data_dir must be a folder for input 'x', not missing",
        ),
        ({"calibration": {"calibration_type": "best"}}, "must be one of default, max, kl"),
        ({"calibration": {"optimization": "go_fast"}}, "optimization must be switches"),
        ({"calibration": {"run_on_cpu": "nobody"}}, "run_on_cpu must be nodes of the model"),
        ({"calibration": {"max_percentile": 3}}, r"max_percentile must be in 0\.5\.\.1, not 3"),
    ],
)
def test_what_is_wrong_names_its_line(vendor: Vendor, groups: Any, text: str) -> None:
    path = config(**groups)
    ran = vendor("hb_compile", "--config", path)
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 1
    found = re.match(r"openbpu: net\.yaml, line (\d+): (\S+) ", ran.err)
    assert found is not None, ran.err
    assert re.search(text, ran.err), ran.err
    if "missing" in text:  # a key that is not there has the line of its group, or where it stands empty
        return
    key = found[2].split(".")[1]
    rows = enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1)
    assert int(found[1]) == next(n for n, row in rows if row.strip().startswith(f"{key}:"))
    assert not Path("out").exists()


def test_a_free_batch_is_one_and_other_free_axes_are_asked_for(vendor: Vendor) -> None:
    for text, shape, code in (
        ("float[N,3,8,8] x", ..., 0),
        ("float[1,3,H,8] x", ..., 1),
        ("float[1,3,H,8] x", "1x3x8x8", 0),
    ):
        onnx.save(float_model(NET.replace("float[1,3,8,8] x", text), WEIGHTS), "net.onnx")
        ran = vendor("hb_compile", "-c", config(input={"input_shape": shape}))
        assert ran.code == code, ran.err
        if code:
            assert "input_parameters.input_shape must be given for input 'x'" in ran.err
        else:
            assert Session("out/net.hbm").inputs[0].shape == (1, 3, 8, 8)


def test_what_is_read_and_changes_nothing_is_said(vendor: Vendor) -> None:
    compiler: dict[str, Any] = {"cache_mode": "enable", "max_time_per_fc": 5, "extra_params": {"a": 1}}
    given: dict[str, Any] = {
        "calibration": {"per_channel": True},
        "model": {"layer_out_dump": True},
        "compiler": compiler,
    }
    out = vendor("hb_compile", "-c", config(**given), "--skip", "export").out
    for key in ("per_channel", "layer_out_dump", "max_time_per_fc", "cache_mode", "extra_params"):
        assert f"\n{key}: " in f"\n{out}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "model_parameters.onnx_model must be given"),
        ("- a", "net.yaml: the configuration must be a mapping, not list"),
        ("a: {b", "net.yaml: the configuration is neither JSON nor YAML"),
        ("a: 1\na: 2", "the key 'a' stands there twice"),
        ("march: nash-e", "line 1: march must be one of model_parameters"),
        ("model_parameters: 3", "line 1: model_parameters must be a mapping, not 3"),
    ],
)
def test_what_is_no_configuration_is_refused(vendor: Vendor, text: str, told: str) -> None:
    Path("net.yaml").write_text(text)
    ran = vendor("hb_compile", "-c", "net.yaml")
    assert ran.code == 1
    assert told in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_file_that_unfolds_without_end_is_refused_at_once(vendor: Vendor) -> None:
    doubled = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))
    Path("net.yaml").write_text(f"a0: &a0 [x]\n{doubled}\nmodel_parameters: {{march: *a29}}\n")
    ran = vendor("hb_compile", "-c", "net.yaml")
    assert ran.code == 1
    assert len(ran.err) < 20_000


def test_all_that_is_wrong_is_said_at_once(vendor: Vendor) -> None:
    ran = vendor("hb_compile", "-c", config(compiler={"jobs": "many"}, calibration={"calibration_type": "x"}))
    assert "calibration_type" in ran.err
    assert "jobs" in ran.err


def test_a_quantized_model_is_taken_as_it_is(vendor: Vendor) -> None:
    made = quantize(onnx.load("net.onnx"), {"x": [sample(0)]})
    onnx.save(made, "net.onnx")
    ran = vendor("hb_compile", "-c", config(calibration={"calibration_type": "load", "cal_data_dir": ""}))
    assert (ran.code, ran.err) == (0, "")
    assert is_quantized(onnx.load("out/net_ptq_model.onnx"))
    assert np.array_equal(
        Session("out/net.hbm").run({"x": sample(0)}).outputs["y"],
        Session(built_of(made)).run({"x": sample(0)}).outputs["y"],
    )


def built_of(model: onnx.ModelProto) -> Any:
    from openbpu.compiler import compile as build

    return build(model, march="nash-e")
