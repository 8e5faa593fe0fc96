"""Files and inputs that commands are given: how, and what is said of wrong ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from interfaces.conftest import Command, fails
from openbpu.arch.hbm import write_hbm
from runtime.models import cpu_program


@pytest.mark.parametrize("name", ["info", "run", "perf", "disasm"])
def test_missing_file_is_said(openbpu: Command, name: str, tmp_path: Path) -> None:
    fails(openbpu(name, tmp_path / "missing.hbm"), "missing.hbm", "No such file")


@pytest.mark.parametrize("name", ["info", "run", "perf", "disasm"])
def test_damaged_file_is_said(openbpu: Command, name: str, files: Path) -> None:
    data = bytearray((files / "cpu.hbm").read_bytes())
    data[300] ^= 1
    (files / "cpu.hbm").write_bytes(data)
    fails(openbpu(name, files / "cpu.hbm"), "cpu.hbm", "section 'meta' is damaged")


def test_info_shows_inputs_and_sections(openbpu: Command, files: Path) -> None:
    ran = openbpu("info", files / "mixed.hbm")
    assert ran.code == 0
    for word in ("nash-e", "Inputs", "1×4×4×8", "float32", "negative", "cpu0", "segment0", "onnx.1"):
        assert word in ran.out
    document = openbpu("info", files / "mixed.hbm", "--json").json()
    assert [t["name"] for t in document["outputs"]] == ["flat", "negative"]
    assert document["inputs"][0]["strides"] == [512, 128, 32, 4]
    assert document["nodes"] == {"BPU": 3, "CPU": 1}
    assert [s["name"] for s in document["sections"]] == ["meta", "const", "onnx.1"]


def test_run_writes_outputs_and_says_where(openbpu: Command, files: Path) -> None:
    ran = openbpu("run", files / "cpu.hbm", "--input", f"image={files}/image.npy", "-o", files / "a" / "b")
    assert ran.code == 0, ran
    assert str(files / "a" / "b" / "result.npy") in ran.out
    assert "estimate" in ran.out
    expected = np.maximum(np.load(files / "image.npy"), 0)
    np.testing.assert_array_equal(np.load(files / "a" / "b" / "result.npy"), expected)
    assert [p.name for p in (files / "a" / "b").iterdir()] == ["result.npy"]


@pytest.mark.parametrize("form", ["image={0}/image.npy", "{0}/image.npy", "{0}/all.npz"])
def test_ways_to_give_an_input(openbpu: Command, files: Path, form: str) -> None:
    np.savez(files / "all.npz", image=np.load(files / "image.npy"))
    document = openbpu("run", files / "cpu.hbm", "--input", form.format(files), "--json").json()
    assert document["outputs"] == [{"name": "result", "shape": [2, 3], "dtype": "float32", "file": None}]
    assert document["latency"]["bpu_us"] == 0
    assert document["latency"]["cpu_us_estimate"] > 0
    assert document["placement"][0]["on"] == "CPU"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("image=missing.npy", "missing.npy: No such file or directory; check the path"),
        ("imgae={0}/image.npy", "did you mean 'image'?"),
        ("image={0}/cpu.hbm", "must be a .npy or .npz file"),
        ("image={0}/objects.npy", "must be a .npy or .npz file"),
        ("image={0}/short.npy", "must be a .npy or .npz file"),
        ("image=/dev/zero", "/dev/zero: not a regular file; check the path"),
        ("image={0}/x.npy", "shape must be 2×3, not 1×4×4×8"),
        ("image={0}/nan.npy", "every value must be finite, not NaN"),
        (
            "image={0}/inf.npy",
            "every value must be finite, not infinity (1 of 6 elements, the first at [0, 2])",
        ),
        ("image={0}/double.npy", "cast it: x.astype(np.float32)"),
        ("image={0}/empty", "a folder of samples must be one of .npy"),
        ("image={0}/picture.png", "for images, not (2, 3); give the array as a .npy"),
        ("image={0}/letter.txt", "must be a .npy or .npz file, not (it is no NumPy file)"),
    ],
)
def test_wrong_input_is_said(openbpu: Command, files: Path, value: str, message: str) -> None:
    (files / "empty").mkdir()
    for name in ("picture.png", "letter.txt"):
        (files / name).write_bytes(b"Dear reader, this is neither a picture nor an array.")
    image = np.load(files / "image.npy")
    np.save(files / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (files / "short.npy").write_bytes((files / "image.npy").read_bytes()[:-4])
    np.save(files / "nan.npy", image * np.nan)
    np.save(files / "inf.npy", np.where(image == 1, np.float32(np.inf), image))
    np.save(files / "double.npy", image.astype(np.float64))
    fails(openbpu("run", files / "cpu.hbm", "--input", value.format(files), "-o", files / "out"), message)
    assert not (files / "out").exists()


@pytest.mark.parametrize("value", ["image=", ""])
def test_an_input_without_a_path_is_a_usage_error(openbpu: Command, files: Path, value: str) -> None:
    ran = openbpu("run", files / "cpu.hbm", "--input", value)
    assert ran.code == 2
    assert f"must be NAME=FILE.npy, not '{value}'" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "{}"),
        ("run", "{}"),
        ("perf", "{}"),
        ("disasm", "{}"),
        ("check", "{}", "--march", "nash-e"),
        ("compile", "{}", "--march", "nash-e", "-o", "x.hbm"),
        ("quantize", "{}", "--calib", ".", "-o", "x.onnx"),
        ("verify", "{}", "x.hbm"),
    ],
    ids=lambda a: a[0],
)
def test_what_is_no_file_is_said_in_plain_words(
    openbpu: Command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    for path, reason in (
        (tmp_path / "gone", "No such file or directory"),
        (tmp_path, "Is a directory"),
        ("/dev/zero", "not a regular file"),
    ):
        fails(openbpu(*(a.format(path) for a in arguments)), f"openbpu: {path}: {reason}; check the path")


@pytest.mark.parametrize("name", ["info", "run", "perf"])
def test_file_for_another_march_is_said(openbpu: Command, files: Path, name: str) -> None:
    ran = openbpu(name, files / "cpu.hbm", "--march", "nash-m")
    fails(ran, "the march must be 'nash-m', not 'nash-e'; binaries are not portable")


@pytest.mark.parametrize("name", ["info", "perf"])
def test_march_of_ones_own_is_given_by_its_file(openbpu: Command, files: Path, name: str) -> None:
    own = files / "mine.json"
    own.write_text('{"based_on": "nash-e", "name": "mine"}')
    write_hbm(replace(cpu_program(), march="mine"), files / "mine.hbm")
    fails(openbpu(name, files / "mine.hbm"), "mine")
    assert openbpu(name, files / "mine.hbm", "--march", own).code == 0


def test_missing_input_is_said(openbpu: Command, files: Path) -> None:
    fails(openbpu("run", files / "cpu.hbm"), "'image' is missing")


def test_output_folder_that_cannot_be_made_is_said(openbpu: Command, files: Path) -> None:
    ran = openbpu("run", files / "cpu.hbm", "--input", files / "image.npy", "-o", files / "image.npy" / "out")
    fails(ran, "image.npy", "Not a directory")


def test_output_names_become_file_names() -> None:
    from openbpu.cli.outputs import file_stems

    names = ["a/b:0", "a_b_0", "../../x", "", "A_B_0", "ünï", "." * 5]
    stems = file_stems(names)
    assert list(stems) == names
    assert len({s.lower() for s in stems.values()}) == len(names)
    assert all(s and not s.startswith(".") and "/" not in s for s in stems.values())


def test_output_names_of_any_script_stay_readable() -> None:
    from openbpu.cli.outputs import file_stems

    kept = ["出力", "ünï", "выход.1", "नमस्ते", "a-b_c.d"]
    assert file_stems(kept) == {name: name for name in kept}
    odd = ["a\tb", "\u202ea", "con", "NUL.x", ".hidden", "x\\y", "\udc80", "Ünï", "ünÏ"]
    made = list(file_stems(odd).values())
    assert made[:7] == ["a_b", "_a", "_con", "_NUL.x", "hidden", "x_y", "_"]
    assert made[7:] == ["Ünï", "ünÏ_1"]
    assert len(file_stems(["長" * 300])["長" * 300].encode()) <= 120


def test_perf_has_the_vendors_keys(openbpu: Command, files: Path) -> None:
    ran = openbpu("perf", files / "cpu.hbm", "--json", "-o", files / "report")
    assert ran.code == 0
    document = ran.json()
    assert set(document) == {"summary", "coreSummaryGroup", "details", "openbpu"}
    assert (files / "report" / "cpu.json").exists()
    assert openbpu("perf", files / "cpu.hbm").out.splitlines()[0] == "on the CPU: nothing runs on the BPU"


def test_compiling_onto_the_model_itself_is_refused(openbpu: Command, files: Path) -> None:
    before = (files / "image.npy").read_bytes()
    for name, more in (("compile", ["--march", "nash-e"]), ("quantize", ["--calib", str(files)])):
        ran = openbpu(name, files / "image.npy", "-o", files / "." / "image.npy", *more)
        fails(ran, "another file than the model")
    assert (files / "image.npy").read_bytes() == before


@pytest.mark.parametrize("name", ["check", "compile", "quantize"])
def test_not_an_onnx_file_is_said(openbpu: Command, files: Path, name: str) -> None:
    march, out = ["--march", "nash-e"], ["-o", str(files / "m.hbm")]
    more = {"check": march, "compile": [*march, *out], "quantize": ["--calib", str(files), *out]}[name]
    fails(openbpu(name, files / "image.npy", *more), "image.npy")
    fails(openbpu(name, files / "missing.onnx", *more), "missing.onnx")
    assert not (files / "m.hbm").exists()


def test_an_input_given_twice_is_said(openbpu: Command, files: Path) -> None:
    given = ("--input", f"image={files}/image.npy") * 2
    fails(openbpu("run", files / "cpu.hbm", *given), "input 'image' must be given once, not twice")


def test_an_output_folder_that_cannot_be_is_said_before_anything_runs(
    openbpu: Command, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openbpu.runtime.Session.run", None)
    given = ("--input", f"image={files}/image.npy")
    fails(openbpu("run", files / "cpu.hbm", *given, "-o", files / "cpu.hbm"), "cpu.hbm", "File exists")
