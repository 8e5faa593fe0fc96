"""Facts about the vendor's commands: they print what its users look for, on our engines."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from interfaces.conftest import Command, fails
from interfaces.vendor_tools import Vendor, config, sample, vendor
from openbpu.compat.__main__ import main
from openbpu.compat.commands import COMMANDS
from openbpu.compat.hbdk import Hbm
from openbpu.runtime import Session

__all__ = ["vendor"]


def test_latency_alone_needs_no_data(vendor: Vendor, tmp_path: Path) -> None:
    ran = vendor(
        "hb_compile", "--fast-perf", "--model", "net.onnx", "--march", "nash-m", "-i", "x", "1x3x8x8"
    )
    assert (ran.code, ran.err) == (0, "")
    session = Session(tmp_path / "model_output" / "net.hbm")
    assert session.inputs[0].dtype.numpy == np.int8
    ran = vendor("hb_mapper", "makertbin", "--fast-perf", "--model", "net.onnx", "--march", "bayes-e")
    assert ran.code == 0
    assert Session(tmp_path / "model_output" / "net.bin").program.march == "bayes-e"


@pytest.mark.parametrize(
    "words",
    [
        ("hb_mapper", "checker", "--model-type", "onnx", "--march", "bayes-e", "--model", "net.onnx"),
        ("hb_compile", "-m", "net.onnx", "--march", "nash-e"),
    ],
)
def test_a_check_says_where_nodes_will_run(vendor: Vendor, words: tuple[str, ...]) -> None:
    ran = vendor(*words)
    assert (ran.code, ran.err) == (0, "")
    assert "nodes on the BPU in 1 subgraph" in ran.out
    assert not Path("model_output").exists()


@pytest.fixture
def built(vendor: Vendor) -> Vendor:
    assert vendor("hb_compile", "-c", config()).code == 0
    return vendor


def test_two_stages_are_compared(built: Vendor) -> None:
    np.save("x.npy", sample(0))
    ran = built("hb_verifier", "-m", "out/net_ptq_model.onnx,out/net.hbm", "-i", "x", "x.npy")
    assert (ran.code, ran.err) == (0, "")
    assert "y: mismatched " in ran.out
    assert "max_abs_diff" in ran.out
    ran = built("hb_verifier", "-m", "out/net_optimized_float_model.onnx,out/net_ptq_model.onnx")
    row = next(line.split() for line in ran.out.splitlines() if line.startswith("y "))
    assert 0.99 < float(row[1]) < 1
    ran = built("hb_verifier", "-m", "out/net.hbm,out/net_quantized_model.bc")
    assert "mismatched 0/256 (0.00%), max_abs_diff 0" in ran.out


def test_a_file_says_what_it_holds(built: Vendor) -> None:
    ran = built("hb_model_info", "out/net.hbm")
    assert (ran.code, ran.err) == (0, "")
    for word in ("march", "nash-e", "valid shape: (1,3,8,8)", "quanti type: NONE"):
        assert word in ran.out
    assert "Conv" in built("hb_model_info", "out/net_quantized_model.bc").out
    assert "input[0]" in built("hrt_model_exec", "model_info", "--model_file=out/net.hbm").out


def test_the_board_tool_infers(built: Vendor) -> None:
    sample(0).tofile("x.bin")
    ran = built(
        "hrt_model_exec", "infer", "--model_file", "out/net.hbm", "--input_file", "x.bin", "--dump_path", "d"
    )
    assert (ran.code, ran.err) == (0, "")
    (path,) = Path("d").iterdir()
    assert np.array_equal(np.load(path), Hbm("out/net.hbm")[0].feed({"x": sample(0)})["y"])


def test_planes_are_fed_from_a_file_each_or_from_one(vendor: Vendor) -> None:
    for n in range(2):
        np.save(f"data/{n}.npy", np.random.default_rng(n).integers(0, 256, (1, 3, 8, 8)).astype(np.float32))
    given = {"input_type_rt": "nv12", "input_type_train": "rgb"}
    assert vendor("hb_compile", "-c", config(input=given)).code == 0
    flat = np.random.default_rng(0).integers(0, 256, 96).astype(np.uint8)
    for name, part in {"nv12": flat, "y": flat[:64], "uv": flat[64:]}.items():
        part.tofile(f"{name}.bin")
    for place, files in (("one", "nv12.bin"), ("two", "y.bin,uv.bin")):
        words = ("--model_file", "out/net.hbm", "--input_file", files, "--dump_path", place)
        assert vendor("hrt_model_exec", "infer", *words).code == 0
    one, two = (np.load(next(Path(place).iterdir())) for place in ("one", "two"))
    assert np.array_equal(one, two)


def test_the_board_tool_times_threads(built: Vendor) -> None:
    words = ("--model_file", "out/net.hbm", "--frame_count", "20", "--thread_num", "4", "--core_id", "0")
    ran = built("hrt_model_exec", "perf", *words, "--profile_path", "prof")
    assert (ran.code, ran.err) == (0, "")
    line = next(line for line in ran.out.splitlines() if line.startswith("Frame count: 20,"))
    for word in ("Thread Average:", "thread max latency:", "thread min latency:", "FPS:"):
        assert word in line
    found = json.loads(Path("prof/profiler.log").read_text())
    assert found["running_condition"]["thread_num"] == 4
    assert found["perf_result"]["min_latency"] <= found["perf_result"]["average_latency"]
    assert set(found) == {
        "perf_result",
        "running_condition",
        "model_latency",
        "processor_latency",
        "task_latency",
    }
    one = built("hrt_model_exec", "perf", "-model_file", "out/net.hbm", "-frame_count", "5").out
    assert f"Average    latency    is: {Session('out/net.hbm').latency.one_thread_us / 1e3:.6f} ms" in one
    both = built("hrt_model_exec", "perf", "--model_file", "out/net.hbm,out/net.hbm", "--priority", "5")
    assert both.out.count("Frame count: 200") == 2


def test_nodes_at_the_ends_are_listed_and_removed(built: Vendor) -> None:
    assert "Quantize" in built("hb_model_modifier", "out/net.hbm").out
    ran = built("hb_model_modifier", "out/net.hbm", "-a")
    assert (ran.code, ran.err) == (0, "")
    session = Session("out/net_modified.hbm")
    assert [t.dtype.numpy.kind for t in (*session.inputs, *session.outputs)] == ["i", "i"]
    Path("alone.hbm").write_bytes(Path("out/net.hbm").read_bytes())
    ran = built("hb_model_modifier", "alone.hbm", "-a")
    assert "openbpu compile --remove-io" in ran.err


def test_latency_is_written_as_json_and_html(built: Vendor) -> None:
    assert built("hb_perf", "out/net.hbm").code == 0
    assert {p.name for p in Path("hb_perf_result/net").iterdir()} == {"net.json", "net.html"}


def test_the_analyzer_names_nodes(built: Vendor) -> None:
    models = "out/net_optimized_float_model.onnx,out/net_calibrated_model.onnx"
    ran = built("hb_analyzer", "-m", models, "-d", "data", "-o", "nodes.csv")
    assert (ran.code, ran.err) == (0, "")
    assert "stem" in ran.out
    assert Path("nodes.csv").read_text().count("\n") > 3


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("hb_compile",), "must be -c FILE, or --model FILE --march MARCH"),
        (("hb_compile", "-c", "none.yaml"), "none.yaml: the file cannot be read"),
        (("hb_compile", "-m", "none.onnx", "--march", "nash-e"), "must be there, not 'none.onnx'"),
        (("hb_compile", "-m", "net.onnx", "--march", "nash-z"), "march must be one of"),
        (("hb_compile", "-m", "net.onnx", "--march", "nash-e", "-i", "x", "big"), "must be like 1x3x224x224"),
        (("hb_compile", "--nonsense"), "`hb_compile --help` lists the options"),
        (
            ("hb_mapper", "checker", "--model-type", "caffe", "--model", "net.onnx"),
            "must be onnx, not 'caffe'",
        ),
        (("hb_mapper", "makertbin", "--march", "bayes-e"), "must be --config FILE"),
        (("hb_perf", "none.bin"), "must be there, not 'none.bin'"),
        (("hb_perf", "net.onnx"), "net.onnx"),
        (("hb_verifier", "-m", "net.onnx"), "must be two files"),
        (("hb_verifier", "-m", "net.onnx,net.onnx", "-i", "z", "f"), "the input must be one of x"),
        (("hrt_model_exec", "perf", "--model_file", "net.onnx"), "net.onnx"),
        (("hb_analyzer", "-m", "net.onnx", "-d", "data"), "the float and the quantized model"),
    ],
)
def test_a_wrong_call_is_one_line(vendor: Vendor, words: tuple[str, ...], text: str) -> None:
    ran = vendor(*words)
    assert ran.code == 1
    assert ran.err.startswith("openbpu: ")
    assert len(ran.err.splitlines()) == 1
    assert text in ran.err


@pytest.mark.parametrize(
    "options",
    [
        ["--frame_count", "0"],
        ["--thread_num", "0"],
        ["--core_id", "2"],
        ["--core_id", "x"],
        ["--priority", "300"],
    ],
)
def test_frames_that_cannot_be_are_refused(built: Vendor, options: list[str]) -> None:
    ran = built("hrt_model_exec", "perf", "--model_file", "out/net.hbm", *options)
    assert ran.code == 1
    assert "must be" in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert name in capsys.readouterr().out


def test_launchers_start_the_commands(openbpu: Command, tmp_path: Path) -> None:
    assert openbpu("compat-commands", tmp_path / "bin").code == 0
    assert {p.stem for p in (tmp_path / "bin").iterdir()} == set(COMMANDS)
    ran = subprocess.run(
        [tmp_path / "bin" / "hb_perf", "none.bin"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "openbpu: hb_perf: a file must be there" in ran.stderr
    assert os.access(tmp_path / "bin" / "hb_compile", os.X_OK)
    assert openbpu("compat-commands", tmp_path / "bin").code == 0  # its own are written anew


def test_launchers_overwrite_no_program_of_others(openbpu: Command, tmp_path: Path) -> None:
    (tmp_path / "hb_mapper").write_text("#!/bin/sh\nexec the vendor's\n")
    fails(openbpu("compat-commands", tmp_path), "without a foreign hb_mapper", "choose another folder")
    assert [p.name for p in tmp_path.iterdir()] == ["hb_mapper"]
