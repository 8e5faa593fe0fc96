"""The whole path through the command: quantize, check, compile, run, disasm."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from interfaces.conftest import DIGITS, QUANTIZED, Command, fails
from openbpu.arch.hbm import read_hbm
from quantization.float_models import float_model, pair_of


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
    ran = openbpu("check", QUANTIZED, "--march", "bayes-e")
    assert ran.code == 0
    assert "18 of 19 nodes on the BPU" in ran.out
    document = openbpu("check", QUANTIZED, "--march", "bayes-e", "--json").json()
    assert {"node", "on", "subgraph", "type", "dtypes", "reason", "fix"} <= document["placement"][0].keys()
    (left,) = [p for p in document["placement"] if p["on"] == "CPU"]
    assert left["reason"]
    assert left["fix"]


def test_check_says_how_it_answers(openbpu: Command) -> None:
    float_, quantized = DIGITS / "digits.onnx", DIGITS / "digits.q.onnx"
    ran = openbpu("check", float_, "--march", "S100")
    assert ran.out.startswith("as after `openbpu quantize` to int8")
    assert "19 of 19 nodes on the BPU" in ran.out
    document = openbpu("check", float_, "--march", "S100", "--as", "int16", "--json").json()
    assert document["quantized as"] == "int16"
    assert {row["dtypes"] for row in document["placement"] if row["type"] == "Relu"} == {"int16/int16"}
    document = openbpu("check", quantized, "--march", "S100", "--json").json()
    assert (document["quantized as"], document["note"]) == (None, "")
    assert "int16 changes nothing" in openbpu("check", quantized, "--march", "S100", "--as", "int16").out


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
    assert again.code == 0, again  # it is quantized but for its result
    assert openbpu("info", tmp_path / "g.hbm", "--json").json()["nodes"]["CPU"] == 0


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


def test_a_batch_is_compiled_for_and_told(openbpu: Command, tmp_path: Path) -> None:
    four = tmp_path / "four.hbm"
    assert openbpu("compile", QUANTIZED, "-o", four, "--march", "S100", "--batch", "4").code == 0
    np.save(tmp_path / "x.npy", np.load(DIGITS / "calibration.npz")["image"][:8].reshape(8, 1, 8, 8))
    rows = openbpu("run", four, "--input", tmp_path / "x.npy", "--json").json()["outputs"]
    assert [row["shape"] for row in rows] == [[4, 10], [4, 10]]
    assert "of 4 images" in openbpu("perf", four).out.splitlines()[0]


def test_shapes_are_given_to_quantize_as_to_compile(openbpu: Command, tmp_path: Path) -> None:
    text = "(float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Sigmoid(x) }"
    onnx.save(float_model(text), tmp_path / "m.onnx")
    np.savez(tmp_path / "c.npz", x=np.ones((2, 3, 8, 8), np.float32))
    rest = ("quantize", tmp_path / "m.onnx", "--calib", tmp_path / "c.npz", "-o", tmp_path / "q.onnx")
    assert openbpu(*rest, "--shape", "x=1,3,8,8").code == 0
    assert openbpu("check", tmp_path / "q.onnx", "--march", "nash-e").code == 0  # no shape is open
    for shape in ("x=1,4,8,8", "z=1", "x=1,3", "x=1,3,8,99999999999"):
        said = openbpu(*rest, "--shape", shape)
        asked = openbpu("check", tmp_path / "m.onnx", "--march", "nash-e", "--shape", shape)
        assert (said.code, said.err) == (1, asked.err)
    assert openbpu(*rest, "--shape", "1,3,8,8").code == 2


def test_weights_in_files_stay_in_files_that_are_named(openbpu: Command, tmp_path: Path) -> None:
    text = "(float[1,64] x) => (float[1,64] y) { y = MatMul(x, w) }"
    model = float_model(text, {"w": np.ones((64, 64), np.float32)})
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    np.savez(tmp_path / "c.npz", x=np.ones((2, 64), np.float32))
    rest = ("quantize", tmp_path / "m.onnx", "--calib", tmp_path / "c.npz", "-o")
    weights = (tmp_path / "w.bin").read_bytes()
    fails(openbpu(*rest, tmp_path / "w.bin"), "another file than the model's weights")
    assert (tmp_path / "w.bin").read_bytes() == weights
    ran = openbpu(*rest, tmp_path / "q.onnx", "--json")
    (data,) = ran.json()["data"]
    assert f"wrote {tmp_path / 'q.onnx'} and {data}" in ran.err
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "c.npz",
        "m.onnx",
        "q.onnx",
        Path(data).name,
        "w.bin",
    ]
    assert openbpu("check", tmp_path / "q.onnx", "--march", "nash-e").code == 0
