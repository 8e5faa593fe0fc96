"""The whole path through the command: quantize, check, compile, run, verify, perf, disasm."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from interfaces.conftest import Command
from interfaces.test_cli import fails
from openbpu.arch.hbm import read_hbm
from openbpu.arch.march import get_march
from quantization.float_models import float_model, pair_of
from runtime.qdq import mixed_model

DIGITS = Path(__file__).parents[2] / "models" / "digits"
QUANTIZED = DIGITS / "digits.q.onnx"


@pytest.fixture
def hbm(openbpu: Command, tmp_path: Path) -> Path:
    path = tmp_path / "digits.hbm"
    assert openbpu("compile", QUANTIZED, "-o", path, "--march", "nash-e").code == 0
    return path


@pytest.fixture
def mixed(openbpu: Command, tmp_path: Path) -> Path:
    onnx.save(mixed_model(), tmp_path / "mixed.onnx")
    path = tmp_path / "mixed.hbm"
    assert openbpu("compile", tmp_path / "mixed.onnx", "-o", path, "--march", "nash-e").code == 0
    return path


def test_from_float_to_outputs(openbpu: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.load(DIGITS / "calibration.npz")["image"][:1])
    q, h, out = tmp_path / "q.onnx", tmp_path / "q.hbm", tmp_path / "out"
    steps: list[tuple[Any, ...]] = [
        ("quantize", DIGITS / "digits.onnx", "--calib", DIGITS / "calibration.npz", "-o", q),
        ("check", q, "--march", "nash-e"),
        ("compile", q, "-o", h, "--march", "nash-e", "-O", "1"),
        ("run", h, "--input", f"image={tmp_path}/x.npy", "-o", out),
        ("run", h, "--input", tmp_path / "x.npy", "-o", tmp_path / "exact", "--mode", "exact"),
        ("verify", q, h, "--min-cosine", "0.9999", "--max-steps", "1"),
        ("perf", h, "-o", tmp_path / "perf"),
        ("disasm", h),
    ]
    for step in steps:
        ran = openbpu(*step)
        assert ran.code == 0, (step, ran)
    a, b = (np.load(folder / "logits.npy") for folder in (out, tmp_path / "exact"))
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize(("flags", "behind"), [((), np.int16), (("--int8-tail",), np.int8)])
def test_results_are_int16_unless_asked_otherwise(
    openbpu: Command, tmp_path: Path, flags: tuple[str, ...], behind: type
) -> None:
    text = "(float[1,2,4,4] x) => (float[1,2,4,4] y) { c = Conv(x, w) y = Sigmoid(c) }"
    onnx.save(float_model(text, {"w": np.ones((2, 2, 1, 1), np.float32)}), tmp_path / "f.onnx")
    np.savez(tmp_path / "c.npz", x=np.ones((3, 1, 2, 4, 4), np.float32))
    q = tmp_path / "q.onnx"
    ran = openbpu("quantize", tmp_path / "f.onnx", "--calib", tmp_path / "c.npz", "-o", q, *flags)
    assert ran.code == 0, ran
    made = [pair_of(onnx.load(q), name)[1].dtype for name in "xcy"]
    assert made == [np.int8, behind, behind]


def test_check_says_why_and_what_to_do(openbpu: Command) -> None:
    ran = openbpu("check", DIGITS / "digits.onnx", "--march", "nash-e")
    assert ran.code == 0
    assert "0 of " in ran.out
    document = openbpu("check", DIGITS / "digits.onnx", "--march", "nash-e", "--json").json()
    assert {"node", "on", "subgraph", "type", "dtypes", "reason", "fix"} <= document["placement"][0].keys()
    assert all(p["on"] == "CPU" and p["reason"] and p["fix"] for p in document["placement"])


def test_compile_tells_what_it_made(openbpu: Command, tmp_path: Path) -> None:
    path = tmp_path / "m.hbm"
    document = openbpu("compile", QUANTIZED, "-o", path, "--march", "nash-m", "-O", "0", "--json").json()
    assert document["march"] == "nash-m"
    assert document["bytes"] == path.stat().st_size
    assert document["options"]["opt"] == "0"
    assert all(p["on"] == "BPU" for p in document["placement"])


def test_same_model_same_bytes(openbpu: Command, process: Command, tmp_path: Path, hbm: Path) -> None:
    ran = process("compile", QUANTIZED, "-o", tmp_path / "again.hbm", "--march", "nash-e")
    assert ran.code == 0, ran
    assert (tmp_path / "again.hbm").read_bytes() == hbm.read_bytes()


@pytest.mark.parametrize("command", ["run", "verify"])
def test_inputs_are_looked_at_before_kernels_compile(
    openbpu: Command, hbm: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("openbpu.simulator.fast.kernels_are_cached", lambda _program: False)
    np.save(hbm.with_name("wrong.npy"), np.zeros(3, np.float32))
    first = (QUANTIZED,) if command == "verify" else ()
    ran = openbpu(command, *first, hbm, "--input", f"image={hbm.with_name('wrong.npy')}")
    fails(ran, "input 'image'", "shape must be 1×1×8×8, not 3")


def softmax_model(folder: Path) -> Path:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[1,8,4,4] x) => (float[1,8,4,4] y)
    <float s = {0.02}, float t = {0.0078125}, int8 z = {0}> {
        a = QuantizeLinear (x, s, z) b = DequantizeLinear (a, s, z) c = Softmax <axis = 1> (b)
        d = QuantizeLinear (c, t, z) y = DequantizeLinear (d, t, z)
    }"""
    onnx.save(onnx.parser.parse_model(text), folder / "softmax.onnx")
    return folder / "softmax.onnx"


@pytest.mark.parametrize(("wish", "on"), [((), "CPU"), (("--bpu", "Softmax"), "BPU")])
def test_an_operator_goes_where_the_user_asks(
    openbpu: Command, tmp_path: Path, wish: tuple[str, ...], on: str
) -> None:
    path, march = softmax_model(tmp_path), ("--march", "bayes-e")
    checked = openbpu("check", path, *march, *wish, "--json").json()
    built = openbpu("compile", path, "-o", tmp_path / "s.hbm", *march, *wish, "--json").json()
    for document in (checked, built):
        assert [p["on"] for p in document["placement"] if p["type"] == "Softmax"] == [on]


def test_a_wish_for_nothing_is_said(openbpu: Command, tmp_path: Path) -> None:
    path = softmax_model(tmp_path)
    ran = openbpu("check", path, "--march", "bayes-e", "--bpu", "Sofmax")
    fails(
        ran, "bpu_ops must be operators of ONNX or nodes of the model, not 'Sofmax'; did you mean 'Softmax'?"
    )


def test_remove_io_takes_and_gives_integers(openbpu: Command, tmp_path: Path) -> None:
    path = tmp_path / "bare.hbm"
    ends = "Quantize,dequantize"
    assert openbpu("compile", QUANTIZED, "-o", path, "--march", "nash-e", "--remove-io", ends).code == 0
    document = openbpu("info", path, "--json").json()
    assert document["inputs"][0]["dtype"] == "int8"
    assert document["outputs"][0]["quanti_type"] == "SCALE"
    assert openbpu("verify", QUANTIZED, path, "--min-cosine", "0.9999").code == 0
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.float32))
    scale = f"(scale {document['inputs'][0]['scale'][0]:.9g}, zero point 0)"
    fails(openbpu("run", path, "--input", tmp_path / "x.npy"), scale, "`openbpu info` shows both")


def test_fast_perf_needs_no_calibration(openbpu: Command, tmp_path: Path) -> None:
    path = tmp_path / "f.hbm"
    ran = openbpu("compile", DIGITS / "digits.onnx", "-o", path, "--march", "nash-e", "--fast-perf")
    assert ran.code == 0, ran
    document = openbpu("info", path, "--json").json()
    assert document["inputs"][0]["dtype"] == "int8"
    assert document["nodes"]["CPU"] == 0
    again = openbpu("compile", QUANTIZED, "-o", tmp_path / "g.hbm", "--march", "nash-e", "--fast-perf")
    fails(again, "quantized")
    assert not (tmp_path / "g.hbm").exists()


def test_perf_json_has_the_keys_users_know(openbpu: Command, mixed: Path) -> None:
    document = openbpu("perf", mixed, "--json").json()
    summary = document["summary"]
    assert set(summary["performance"]) == {"FPS", "latency (us)", "latency (ms)", "latency (us) by segments"}
    assert set(summary["DDR access data"]) == {
        "DDR megabytes per run",
        "loaded bytes per run",
        "stored bytes per run",
        "min memory requirement",
        "input memory",
        "output memory",
        "static memory",
        "dynamic memory",
    }
    assert set(summary["interval info"]) == {
        "interval number",
        "interval time (ms)",
        "interval computing unit utilization",
        "interval ddr loading bandwidth (megabytes/s)",
        "interval ddr storing bandwidth (megabytes/s)",
    }
    assert set(summary["layer details"][0]) == {
        "layer name",
        "active period of time",
        "computing cost (no DDR)",
        "load cost",
        "store cost",
        "origin ops",
    }
    assert set(summary["model info"]) == {
        "BPU march",
        "BPU core number",
        "compiling options",
        "double int8 macs",
        "feature int16 weight int8 macs",
        "feature int8 weight int16 macs",
        "original conv ops",
    }
    instruction = document["details"][0][0]
    assert set(instruction) == {"inst_type", "source_layer_names", "start_time (us)", "working_time (us)"}


def test_perf_figures_fit_together(openbpu: Command, mixed: Path) -> None:
    document = openbpu("perf", mixed, "--json").json()
    performance, intervals = document["summary"]["performance"], document["summary"]["interval info"]
    ddr, total = document["summary"]["DDR access data"], performance["latency (us)"]
    assert len(performance["latency (us) by segments"]) == 2
    assert sum(performance["latency (us) by segments"]) == pytest.approx(total, abs=0.002)
    assert performance["FPS"] == pytest.approx(1e6 / total, rel=1e-3)
    count = intervals["interval number"]
    running = total - 2 * get_march("nash-e").chip.start_us  # intervals cover what instructions take
    assert count * intervals["interval time (ms)"] * 1e3 == pytest.approx(running, rel=0.01)
    for kind, name in (("loading", "loaded"), ("storing", "stored")):
        rates = intervals[f"interval ddr {kind} bandwidth (megabytes/s)"]
        moved = sum(rates) * intervals["interval time (ms)"] * 1e3
        assert moved == pytest.approx(ddr[f"{name} bytes per run"], rel=0.02)
    assert document["openbpu"]["latency"]["cpu_us_estimate"] > 0
    ends = [i["start_time (us)"] + i["working_time (us)"] for i in document["details"][0]]
    assert max(ends) <= total + 0.001
    assert {i["inst_type"] for i in document["details"][0]} >= {"LOAD", "STORE", "TAE", "VPU"}
    assert {p["on"] for p in openbpu("info", mixed, "--json").json()["segments"]} == {"BPU", "CPU"}


def test_perf_labels_what_is_estimated(openbpu: Command, mixed: Path) -> None:
    document = openbpu("perf", mixed, "--json").json()["openbpu"]
    estimates, latency = document["estimates"], document["latency"]
    assert {e["basis"] for e in estimates} == {"estimate"}
    cpu = [e for e in estimates if e["what"].startswith("CPU segment")]
    assert sum(e["us"] for e in cpu) == pytest.approx(latency["cpu_us_estimate"])
    for e in cpu:
        work = max(e["arithmetic_us"], e["memory_us"])
        assert e["us"] == pytest.approx(e["handover_us"] + e["dispatch_us"] + work)
        assert e["origin ops"]
    others = {e["what"]: e["us"] for e in estimates if e not in cpu}
    assert others == {
        "dispatch: submitting a run": latency["submit_us"],
        "dequantization of integer outputs": latency["dequantize_us_estimate"],
    }


def test_perf_has_a_roofline_whose_numbers_decide(openbpu: Command, mixed: Path) -> None:
    document = openbpu("perf", mixed, "--json").json()
    roofline, names = document["openbpu"]["roofline"], document["summary"]["layer details"]
    assert [line["layer name"] for line in roofline["layers"]] == [d["layer name"] for d in names]
    roof = roofline["roof"]
    ridge = roof["int8 macs per second"] / roof["ddr bytes per second"]
    assert roof["ridge (macs per byte)"] == pytest.approx(ridge, abs=0.1)
    for line in roofline["layers"]:
        three = {k: line[f"{k.lower()}_us"] for k in ("compute", "DDR", "overhead")}
        assert line["bound"] == max(three, key=lambda k: three[k])
        if line["macs"]:
            assert line["macs per byte"] == pytest.approx(line["macs"] / line["ddr bytes"], abs=0.001)
            assert line["reached macs per us"] <= line["attainable macs per us"]
        assert 0 <= line["change"]["gain_us"] <= line["exposed_us"] + 0.001
    assert sum(line["ddr bytes"] for line in roofline["layers"]) == sum(
        document["summary"]["DDR access data"][f"{k} bytes per run"] for k in ("loaded", "stored")
    )
    (segment,) = roofline["cpu segments"]
    assert segment["basis"] == "estimate"
    gains = [c["gain_us"] for c in roofline["network"]["changes"]]
    assert gains == sorted(gains, reverse=True)
    assert roofline["network"]["best change"]["gain_us"] == gains[0] > 0


def test_perf_tables_name_layers_and_sides(openbpu: Command, mixed: Path) -> None:
    text = openbpu("perf", mixed).out
    words = ("conv1", "conv2", "TAE", "simulated", "estimate", "FPS=", "Roofline", "What would help most")
    for word in words:
        assert word in text


def test_verify_compares_every_output(openbpu: Command, mixed: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((1, 8, 6, 6), dtype=np.float32))
    arguments = ("verify", tmp_path / "mixed.onnx", mixed, "--input", tmp_path / "x.npy")
    assert "result" in openbpu(*arguments).out
    (output,) = openbpu(*arguments, "--json").json()["outputs"]
    assert output["name"] == "result"
    assert output["step"] == pytest.approx(0.05)
    assert output["max_steps"] <= 1
    assert output["elements"] == 288


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])  # bayes-e quantizes on the CPU
def test_verify_takes_random_inputs(openbpu: Command, tmp_path: Path, march: str) -> None:
    hbm = tmp_path / "m.hbm"
    assert openbpu("compile", QUANTIZED, "-o", hbm, "--march", march).code == 0
    (output,) = openbpu("verify", QUANTIZED, hbm, "--samples", "3", "--seed", "7", "--json").json()["outputs"]
    assert output["elements"] == 30
    assert output["max_steps"] <= 1


def test_verify_fails_for_the_binary_of_another_model(openbpu: Command, tmp_path: Path) -> None:
    other = tmp_path / "f.hbm"
    made = openbpu("compile", DIGITS / "digits.onnx", "-o", other, "--march", "nash-e", "--fast-perf")
    assert made.code == 0
    for more in ((), ("--min-cosine", "0.9999")):
        ran = openbpu("verify", QUANTIZED, other, *more)
        assert ran.code == 1
        assert "A step is" in ran.out
        assert ran.out.endswith("verify: failed, 1 of 1 output differ too much\n")
        assert re.fullmatch(r"openbpu: output 'logits': cosine 0\.\d+ is below 0\.99(99)?\n", ran.err)
    document = openbpu("verify", QUANTIZED, other, "--json").json()
    assert document["passed"] is False
    assert len(document["failures"]) == 1
    assert openbpu("verify", QUANTIZED, other, "--min-cosine", "-1").code == 0
    assert openbpu("verify", QUANTIZED, other, "--min-cosine", "-1", "--max-steps", "1").code == 1


def test_verify_says_that_the_reference_is_a_float_model(openbpu: Command, hbm: Path) -> None:
    remark = "is a float model: the differences include those of its quantization"
    assert remark in openbpu("verify", DIGITS / "digits.onnx", hbm).out
    ran = openbpu("verify", QUANTIZED, hbm)
    assert remark not in ran.out
    assert ran.out.endswith("verify: passed, 1 output compared\n")


@pytest.mark.parametrize(
    "option", [("--min-cosine", "nan"), ("--max-steps", "nan"), ("--min-cosine", "2"), ("--max-steps", "-1")]
)
def test_thresholds_that_mean_nothing_are_usage_errors(
    openbpu: Command, hbm: Path, option: tuple[str, str]
) -> None:
    assert openbpu("verify", QUANTIZED, hbm, *option).code == 2


def test_verify_of_another_model_is_refused(openbpu: Command, hbm: Path, mixed: Path, tmp_path: Path) -> None:
    fails(openbpu("verify", tmp_path / "mixed.onnx", hbm), "cannot run it")
    fails(openbpu("verify", hbm, hbm), "cannot load it")
    fails(openbpu("verify", tmp_path / "missing.onnx", hbm), "missing.onnx: No such file or directory")


def test_unwritable_output_is_said(openbpu: Command, tmp_path: Path) -> None:
    for place in (tmp_path / "missing" / "m.hbm", tmp_path):
        fails(openbpu("compile", QUANTIZED, "-o", place, "--march", "nash-e"), "must be writable")
    assert list(tmp_path.iterdir()) == []


def test_march_that_cannot_be_compiled_for_is_said(openbpu: Command, tmp_path: Path) -> None:
    fails(openbpu("compile", QUANTIZED, "-o", tmp_path / "m.hbm", "--march", "bernoulli2"), "bernoulli2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("before", [None, b"old"])
def test_interrupt_during_compile_leaves_no_partial_file(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "m.hbm"
    if before:
        path.write_bytes(before)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [
        sys.executable,
        "-m",
        "openbpu.cli",
        "compile",
        str(QUANTIZED),
        "-o",
        str(path),
        "--march",
        "nash-e",
    ]
    codes = set()
    for delay in (0.15, 0.3, 0.45):
        running = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        time.sleep(delay)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
        codes.add(running.returncode)
        left = {p.name for p in tmp_path.iterdir()}
        assert left <= {"m.hbm"}, left
        if running.returncode == 0 or (path.exists() and path.read_bytes() != before):
            read_hbm(path)
        assert "internal error" not in err
    assert codes <= {0, 130, -signal.SIGINT, 1}


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", QUANTIZED, "--march", "nash-e"),
        ("compile", QUANTIZED, "-o", "{}/x.hbm", "--march", "nash-e"),
        ("info", "{}/digits.hbm"),
        ("run", "{}/digits.hbm", "--input", "{}/x.npy"),
        ("perf", "{}/digits.hbm", "-o", "{}/p"),
        ("verify", QUANTIZED, "{}/digits.hbm"),
        ("disasm", "{}/digits.hbm"),
        ("quantize", DIGITS / "digits.onnx", "--calib", DIGITS / "calibration.npz", "-o", "{}/q.onnx"),
        ("march",),
        ("march", "nash-e"),
    ],
    ids=lambda a: a[0],
)
def test_json_is_one_document_and_nothing_else(
    process: Command, hbm: Path, arguments: tuple[Any, ...]
) -> None:
    np.save(hbm.parent / "x.npy", np.zeros((1, 1, 8, 8), np.float32))
    ran = process(*(str(a).format(hbm.parent) for a in arguments), "--json")
    assert ran.code == 0, ran
    assert json.loads(ran.out)


@pytest.mark.parametrize(("value", "said"), [(np.inf, "finite, not infinity"), (np.nan, "finite, not NaN")])
def test_calibration_data_that_is_not_finite_is_said(
    openbpu: Command, tmp_path: Path, value: float, said: str
) -> None:
    np.savez(tmp_path / "c.npz", image=np.full((1, 1, 1, 8, 8), value, np.float32))
    calib, out = tmp_path / "c.npz", tmp_path / "q.onnx"
    fails(openbpu("quantize", DIGITS / "digits.onnx", "--calib", calib, "-o", out), said)


def test_disasm_json_has_every_instruction(openbpu: Command, hbm: Path) -> None:
    lines = [line for line in openbpu("disasm", hbm).out.splitlines() if not line.startswith(";")]
    (segment,) = openbpu("disasm", hbm, "--json").json()["segments"]
    assert sum(map(len, segment["cores"])) == len(lines)
    first = segment["cores"][0][0]
    assert lines[0].split()[1:4] == [first["engine"], first["layer"], first["instruction"]]
    assert all(f"{k}=" in lines[0] for k in first["operands"])


@pytest.mark.parametrize(
    ("mode", "size", "said"),
    [
        ("RGB", (20, 10), "calibration: resized 3 images to 8×8, converted 3 images to grey\n"),
        ("L", (20, 10), "calibration: resized 3 images to 8×8\n"),
        ("L", (8, 8), ""),
    ],
)
def test_quantize_says_what_was_done_to_images(
    openbpu: Command, tmp_path: Path, mode: str, size: tuple[int, int], said: str
) -> None:
    from PIL import Image

    for n in range(3):
        Image.new(mode, size, 50 * n if mode == "L" else (50 * n, 9, 9)).save(tmp_path / f"{n}.png")
    out = tmp_path / "q.onnx"
    ran = openbpu("quantize", DIGITS / "digits.onnx", "--calib", tmp_path, "-o", out, "--json")
    assert ran.code == 0, ran
    assert ran.err == f"{said}wrote {out}\n"
    assert ran.json()["calibration"]["shapes"] == {"image": [3, 1, 1, 8, 8]}
