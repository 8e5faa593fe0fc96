"""Bad input through the command: exit code 1, one message that names the place, nothing damaged or left.

The list is the project's; wrong values of `--input` are in test_cli_files.py, signals while a file is
written in test_cli_models.py.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from compiler.reading import model
from interfaces.bad_models import (
    ANY_MODEL,
    FLOAT_MODEL,
    GIB,
    QUANTIZED_MODEL,
    Damage,
    float_model,
    quantized_model,
    store_outside,
)
from interfaces.conftest import Command, Ran, fails
from openbpu.arch.hbm import FORMAT, to_bytes
from openbpu.compiler import compile as build

DIGITS = Path(__file__).parents[2] / "models" / "digits"
MARCH = ("--march", "nash-e")
ON_QUANTIZED = ("check", "compile")
ON_FLOAT = ("quantize", "fast-perf")

NOT_WHOLE = "model must be a whole ONNX file, not truncated or damaged"


def call(openbpu: Command, what: str, path: Path, *parts: str) -> None:
    """Call a command that reads an ONNX model and must fail; its folder is afterwards what it was before."""
    folder = path.parent
    np.savez(folder / "calibration.npz", x=np.zeros((2, 4, 6, 6), np.float32))
    arguments = {
        "check": ("check", path, *MARCH),
        "compile": ("compile", path, "-o", folder / "new.hbm", *MARCH),
        "fast-perf": ("compile", path, "-o", folder / "new.hbm", *MARCH, "--fast-perf"),
        "quantize": ("quantize", path, "--calib", folder / "calibration.npz", "-o", folder / "new.onnx"),
    }[what]
    before = {p.name: p.stat() for p in folder.iterdir()}
    ran = openbpu(*arguments)
    fails(ran, *parts)
    assert "internal error" not in ran.err
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == {
        name: stat.st_mtime_ns for name, stat in before.items()
    }


def saved(proto: ModelProto, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("out", "said"),
    [("no/such/folder/q.onnx", "No such file"), ("", "Is a directory"), ("m.onnx/q", "Not a dir")],
)
def test_quantize_looks_at_its_output_before_it_calibrates(
    openbpu: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, said: str
) -> None:
    path = saved(float_model(), tmp_path)
    monkeypatch.setattr("openbpu.quantization.onnx.load_calibration", None)
    fails(openbpu("quantize", path, "--calib", tmp_path, "-o", tmp_path / out), said, str(tmp_path / out))
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("what", ON_QUANTIZED)
@pytest.mark.parametrize("damage", [pytest.param(d, id=n) for n, d in (ANY_MODEL | QUANTIZED_MODEL).items()])
def test_bad_quantized_model_is_said(openbpu: Command, tmp_path: Path, what: str, damage: Damage) -> None:
    proto = quantized_model()
    damage.apply(proto)
    call(openbpu, what, saved(proto, tmp_path), *damage.said)


@pytest.mark.parametrize("what", ON_FLOAT)
@pytest.mark.parametrize("damage", [pytest.param(d, id=n) for n, d in (ANY_MODEL | FLOAT_MODEL).items()])
def test_bad_float_model_is_said(openbpu: Command, tmp_path: Path, what: str, damage: Damage) -> None:
    proto = float_model()
    damage.apply(proto)
    call(openbpu, what, saved(proto, tmp_path), *damage.said)


def test_the_models_are_good_before_they_are_damaged(openbpu: Command, tmp_path: Path) -> None:
    for make, more in ((quantized_model, ()), (float_model, ("--fast-perf",))):
        path = saved(make(), tmp_path)
        ran = openbpu("compile", path, "-o", tmp_path / "m.hbm", *MARCH, *more)
        assert ran.code == 0, ran


CONTENTS = {
    "empty": (b"", "m.onnx: model must be an ONNX file, not empty"),
    "text": (b"a text file\n" * 9, "m.onnx: model must be an ONNX file, not something else"),
    "zeros": (bytes(1000), "m.onnx: model must be"),
    "hbm": (b"\x89HBM\r\n\x1a\n" + bytes(100), "m.onnx: model must be an ONNX file, not something else"),
    "cut in the weights": (quantized_model().SerializeToString()[:-30], NOT_WHOLE),
    "cut in the nodes": (quantized_model().SerializeToString()[:90], NOT_WHOLE),
}


@pytest.mark.parametrize("what", [*ON_QUANTIZED, *ON_FLOAT])
@pytest.mark.parametrize("content", CONTENTS)
def test_file_that_is_no_whole_model_is_said(
    openbpu: Command, tmp_path: Path, what: str, content: str
) -> None:
    data, message = CONTENTS[content]
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    call(openbpu, what, path, message)


@pytest.mark.parametrize("what", [*ON_QUANTIZED, *ON_FLOAT])
@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("weights.bin", "weights.bin, not missing; put the data file beside the model"),
        ("../secret.bin", "the model's folder, not '../secret.bin'"),
        ("/etc/passwd", "the model's folder, not '/etc/passwd'"),
    ],
)
def test_external_data_missing_or_outside_is_said(
    openbpu: Command, tmp_path: Path, what: str, location: str, message: str
) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (tmp_path / "inner").mkdir()
    proto = quantized_model() if what in ON_QUANTIZED else float_model()
    store_outside(proto, location, 16 if what in ON_QUANTIZED else 64)
    call(openbpu, what, saved(proto, tmp_path / "inner"), "tensor 'w': external data file must be", message)


@pytest.mark.parametrize("what", [*ON_QUANTIZED, *ON_FLOAT])
def test_3_gb_of_external_data_are_not_read(openbpu: Command, tmp_path: Path, what: str) -> None:
    proto = quantized_model() if what in ON_QUANTIZED else float_model()
    ANY_MODEL["3 GB weight"].apply(proto)
    store_outside(proto, "weights.bin", 3 * GIB)
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(3 * GIB)  # sparse: it takes no room
    call(openbpu, what, saved(proto, tmp_path), *ANY_MODEL["3 GB weight"].said)


# --- .hbm files ---


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return to_bytes(build(DIGITS / "digits.q.onnx", march="nash-e"))


def on_hbm(openbpu: Command, folder: Path, data: bytes) -> Iterator[Ran]:
    """Call every command that reads a .hbm on these bytes."""
    path, image = folder / "m.hbm", folder / "x.npy"
    path.write_bytes(data)
    np.save(image, np.zeros((1, 1, 8, 8), np.float32))
    calls: list[list[object]] = [
        ["info", path],
        ["disasm", path],
        ["run", path, "--input", image, "-o", folder / "out", "--mode", "exact"],
        ["perf", path, "-o", folder / "out"],
        ["verify", DIGITS / "digits.q.onnx", path, "--mode", "exact"],
    ]
    for arguments in calls:
        yield openbpu(*arguments)
        assert path.read_bytes() == data
        assert not (folder / "out").exists()


@pytest.mark.parametrize("length", [0, 3, 63, 64, 200, 11_000, -1])
def test_truncated_hbm_is_said(openbpu: Command, tmp_path: Path, digits: bytes, length: int) -> None:
    for ran in on_hbm(openbpu, tmp_path, digits[:length]):
        fails(ran, "m.hbm", "compile")


@pytest.mark.parametrize("seed", range(24))
def test_flipped_bit_anywhere_in_a_hbm_is_said(
    openbpu: Command, tmp_path: Path, digits: bytes, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    place = int(rng.integers(300 if seed < 8 else len(digits)))  # a third in header and section table
    data = bytearray(digits)
    data[place] ^= 1 << int(rng.integers(8))
    for ran in on_hbm(openbpu, tmp_path, bytes(data)):
        fails(ran, "m.hbm")


def test_newer_hbm_asks_for_an_upgrade(openbpu: Command, tmp_path: Path, digits: bytes) -> None:
    data = bytearray(digits)
    struct.pack_into("<I", data, 8, FORMAT + 1)
    struct.pack_into("<I", data, 60, zlib.crc32(data[:60]))
    for ran in on_hbm(openbpu, tmp_path, bytes(data)):
        fails(ran, "m.hbm", f"format {FORMAT + 1}", "upgrade openbpu")


@pytest.mark.parametrize("name", ["info", "run", "perf", "verify"])
def test_hbm_for_another_march_is_said(openbpu: Command, tmp_path: Path, digits: bytes, name: str) -> None:
    (tmp_path / "m.hbm").write_bytes(digits)
    first = [DIGITS / "digits.q.onnx"] if name == "verify" else []
    ran = openbpu(name, *first, tmp_path / "m.hbm", "--march", "bayes-e")
    fails(ran, "the march must be 'bayes-e', not 'nash-e'", "compile the model for bayes-e")


def test_hbm_for_a_march_nobody_knows_asks_for_its_file(openbpu: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"name": "mine", "based_on": "nash-e"}')
    path = tmp_path / "m.hbm"
    assert (
        openbpu("compile", DIGITS / "digits.q.onnx", "-o", path, "--march", tmp_path / "mine.json").code == 0
    )
    fails(openbpu("perf", path), "not 'mine'", "--march FILE.json")
    assert openbpu("perf", path, "--march", tmp_path / "mine.json").code == 0


# --- outputs ---

NOWHERE = ["{}/file/out", "{}/missing/out", "/proc/openbpu-test/out"]


@pytest.mark.parametrize("place", NOWHERE[:1] + NOWHERE[2:])
@pytest.mark.parametrize("name", ["run", "perf"])
def test_output_folder_that_cannot_be_made_is_said(
    openbpu: Command, tmp_path: Path, digits: bytes, name: str, place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "m.hbm").write_bytes(digits)
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.float32))
    more = ["--input", tmp_path / "x.npy", "--mode", "exact"] if name == "run" else []
    ran = openbpu(name, tmp_path / "m.hbm", *more, "-o", place.format(tmp_path))
    fails(ran, place.format(tmp_path).removesuffix("/out"), "check the path")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "m.hbm", "x.npy"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("place", [*NOWHERE, "{}", os.devnull])
@pytest.mark.parametrize("what", ["compile", "quantize"])
def test_output_file_that_cannot_be_written_is_said(
    openbpu: Command, tmp_path: Path, what: str, place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    out = place.format(tmp_path)
    source, more = {
        "compile": (DIGITS / "digits.q.onnx", MARCH),
        "quantize": (DIGITS / "digits.onnx", ("--calib", DIGITS / "calibration.npz")),
    }[what]
    fails(openbpu(what, source, "-o", out, *more), out, "writ")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


# --- Ctrl-C ---


def deep_model(layers: int) -> ModelProto:
    """A chain of quantized convolutions that keeps the compiler busy for seconds."""
    nodes, last = [], "x"
    weight = numpy_helper.from_array(np.ones((16, 16, 3, 3), np.int8), "w")
    for i in range(layers):
        nodes += [
            helper.make_node("QuantizeLinear", [last, "s", "z"], [f"q{i}"]),
            helper.make_node("DequantizeLinear", [f"q{i}", "s", "z"], [f"d{i}"]),
            helper.make_node("DequantizeLinear", ["w", "s", "z"], [f"w{i}"]),
            helper.make_node("Conv", [f"d{i}", f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]),
        ]
        last = f"c{i}"
    proto = model(
        "g (float[1,16,64,64] x) => (float[1,16,64,64] y) <float s = {0.05}, int8 z = {0}> {y = Relu (x)}"
    )
    proto.graph.initializer.append(weight)
    del proto.graph.node[:]
    proto.graph.node.extend([*nodes, helper.make_node("Relu", [last], ["y"])])
    return proto


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_interrupt_in_the_middle_of_a_compile_leaves_the_old_file(tmp_path: Path) -> None:
    source, out = saved(deep_model(400), tmp_path), tmp_path / "m.hbm"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    script = "import sys; print('ready', flush=True); from openbpu.cli import main; main()"
    command = [sys.executable, "-c", script, "compile", str(source), "-o", str(out), *MARCH]

    def interrupted(delay: float | None) -> tuple[int, str]:
        running = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        if delay is not None:
            time.sleep(delay)
            running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
        return running.returncode, err

    begun = time.perf_counter()
    assert interrupted(None)[0] == 0
    whole, took = out.read_bytes(), time.perf_counter() - begun
    unharmed = 0
    for share in (0.3, 0.45, 0.6):
        out.write_bytes(b"old")
        code, err = interrupted(share * took)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["m.hbm", "m.onnx"]
        assert code in (0, 130)
        if code == 130:
            assert err == "openbpu: interrupted\n"
        # The signal may come when the file is already there, whole.
        assert out.read_bytes() in ((b"old", whole) if code == 130 else (whole,))
        unharmed += out.read_bytes() == b"old"
    assert unharmed
