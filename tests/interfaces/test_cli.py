"""What the command prints, where, and with which exit code."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from interfaces.conftest import Command, Ran
from openbpu.arch.hbm import write_hbm
from openbpu.arch.march import march_names
from openbpu.cli import guard
from openbpu.cli.app import command
from openbpu.cli.commands import app
from runtime.models import bpu_program, cpu_program

COMMANDS = ("check", "quantize", "compile", "info", "run", "perf", "verify", "disasm", "march")


def fails(ran: Ran, *parts: str, code: int = 1) -> None:
    """One message, nothing on stdout, no traceback."""
    assert ran.code == code, ran
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert ran.err.startswith("openbpu: ")
    assert len(ran.err.splitlines()) == 1
    for part in parts:
        assert part in ran.err


def test_help_names_every_command(openbpu: Command) -> None:
    ran = openbpu("--help")
    assert ran.code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in ran.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(openbpu: Command, name: str) -> None:
    ran = openbpu(name, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: openbpu {name}")


def test_help_is_quick(process: Command) -> None:
    times = []
    for _ in range(5):
        before = os.times()
        assert process("--help").code == 0
        after = os.times()
        # Seconds of CPU, not of the clock: other processes of the machine do not count.
        times.append(
            after.children_user - before.children_user + after.children_system - before.children_system
        )
    assert min(times) < 0.3


def test_help_loads_nothing_costly() -> None:
    script = (
        "import sys; import openbpu.cli.commands; "
        "print(sorted({'numpy', 'numba', 'onnx', 'onnxruntime', 'rich'} & sys.modules.keys()))"
    )
    env = {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_version(openbpu: Command) -> None:
    ran = openbpu("--version")
    assert ran.code == 0
    assert ran.out.startswith("openbpu 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["info"],
        ["info", "a.hbm", "--colour"],
        ["compile", "a.onnx", "-o", "a.hbm"],
        ["compile", "a.onnx", "-o", "a.hbm", "--march", "nash-e", "-O", "3"],
        ["compile", "a.onnx", "-o", "a.hbm", "--march", "nash-e", "--balance", "101"],
        ["compile", "a.onnx", "-o", "a.hbm", "--march", "nash-e", "--shape", "x"],
        ["check", "a.onnx", "--march", "nash-e", "--shape", "x=1,,3"],
        ["run", "a.hbm", "--mode", "quick"],
        ["quantize", "a.onnx", "--calib", "images", "-o", "q.onnx", "--mean", "0.5;0.5"],
        ["quantize", "a.onnx", "--calib", "images", "-o", "q.onnx", "--mean", "nan"],
        ["run", "a.hbm", "--threads", "0"],
        ["run", "a.hbm", "--threads", "257"],
        ["verify", "a.onnx", "a.hbm", "--threads", "100000"],
        ["compile", "a.onnx", "-o", "a.hbm", "--march", "nash-e", "--remove-io", "quantize,softmax"],
        ["compile", "a.onnx", "-o", "a.hbm", "--march", "nash-x"],
        ["info", "a.hbm", "--march", "x" * 5000],
        ["march", "nash"],
    ],
)
def test_wrong_usage_exits_with_2(openbpu: Command, arguments: list[str]) -> None:
    ran = openbpu(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert "Usage: openbpu" in ran.err


def test_marches_are_listed(openbpu: Command) -> None:
    ran = openbpu("march")
    assert ran.code == 0
    for name in march_names():
        assert f" {name} " in ran.out
    assert {m["name"] for m in openbpu("march", "--json").json()} == set(march_names())


@pytest.mark.parametrize("name", march_names())
def test_march_shows_every_number_with_its_confidence(openbpu: Command, name: str) -> None:
    text, document = openbpu("march", name).out, openbpu("march", name, "--json").json()
    assert len(document["numbers"]) > 50
    for key, number in document["numbers"].items():
        assert number["confidence"] in {"published", "fitted", "assumed"}
        assert key.removeprefix("limits.") in text


def test_unknown_march_lists_the_known_ones(openbpu: Command) -> None:
    ran = openbpu("march", "nahs-e")
    assert ran.code == 2
    assert all(word in ran.err for word in ("'nahs-e'", "bernoulli2", "did you mean 'nash-e'?"))


@pytest.mark.parametrize("arguments", [("march", "NASH-E"), ("info", "{}/cpu.hbm", "--march", "Nash-E")])
def test_the_case_of_a_march_does_not_matter(
    openbpu: Command, files: Path, arguments: tuple[str, ...]
) -> None:
    assert openbpu(*(a.format(files) for a in arguments)).code == 0


def test_missing_march_file_is_an_error_and_no_usage_error(openbpu: Command) -> None:
    fails(openbpu("march", "missing.json"), "missing.json")


def test_threads_have_a_limit_that_is_said(openbpu: Command) -> None:
    assert "256" in openbpu("run", "a.hbm", "--threads", "100000").err


def test_help_offers_what_can_be_removed(openbpu: Command) -> None:
    shown = " ".join(openbpu("compile", "--help").out.split())
    assert "quantize, dequantize, transpose" in shown
    assert "softmax" not in shown


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
        ("image={0}", "Is a directory; check the path"),
    ],
)
def test_wrong_input_is_said(openbpu: Command, files: Path, value: str, message: str) -> None:
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
    assert openbpu("perf", files / "cpu.hbm").out.endswith("nothing runs on the BPU\n")


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


def raising(error: BaseException, name: str) -> None:
    def fail() -> None:
        raise error

    command(name)(fail)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "not enough memory"),
        (OSError(28, "No space left on device", "/mnt/x.hbm"), 1, "/mnt/x.hbm: No space left on device"),
        (PermissionError(13, "Permission denied", "/root/x"), 1, "/root/x: Permission denied"),
        (ZeroDivisionError("division by zero"), 1, "internal error in openbpu 0."),
        (ValueError("two\nlines"), 1, "ValueError: two lines; this is a bug, please report it"),
    ],
)
def test_any_exception_becomes_one_message(
    openbpu: Command, error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))
    raising(error, "broken")
    fails(openbpu("broken"), message, code=code)


@pytest.mark.parametrize("how", ["--debug", "environment"])
def test_traceback_is_shown_on_request(openbpu: Command, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))
    monkeypatch.setenv("OPENBPU_DEBUG", "0" if how == "--debug" else "1")
    raising(ZeroDivisionError("division by zero"), "broken")
    ran = openbpu(*(["--debug"] if how == "--debug" else []), "broken")
    assert ran.code == 1
    assert "Traceback" in ran.err
    assert "internal error" in ran.err


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_reader_that_leaves_early_is_no_error(files: Path) -> None:
    command_line = f"{sys.executable} -m openbpu.cli march nash-e --json | head -n 1"
    env = {"PYTHONPATH": ":".join(p for p in sys.path if p), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", command_line], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "{\n"
    assert done.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
@pytest.mark.parametrize("arguments", ["march", "march nash-e --json", "--help", "--version", "info cpu.hbm"])
def test_a_closed_stdout_is_said(files: Path, arguments: str) -> None:
    env = os.environ | {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    line = f"{sys.executable} -m openbpu.cli {arguments}"
    for closed, said in (
        (">&-", "openbpu: stdout is closed; send it to a file, or to /dev/null\n"),
        (">&- 2>&-", ""),
    ):
        done = subprocess.run(
            ["sh", "-c", f"{line} {closed}"], env=env, cwd=files, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_closed_stderr_costs_nothing(files: Path) -> None:
    env = os.environ | {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    line = f"{sys.executable} -m openbpu.cli info cpu.hbm 2>&-"
    done = subprocess.run(["sh", "-c", line], env=env, cwd=files, capture_output=True, text=True, check=True)
    assert "nash-e" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_leave_nothing_behind(tmp_path: Path, number: int, code: int) -> None:
    script = f"""
import os
from openbpu.arch.files import write_atomic
from openbpu.cli.app import app, command
from openbpu.cli.signals import catch_signals
catch_signals()
def chunks():
    yield b"half"
    os.kill(os.getpid(), {int(number)})
    yield b"rest"
@command("slow")
def slow() -> None:
    write_atomic({str(tmp_path / "out.hbm")!r}, chunks())
@command("other")
def other() -> None: ...
app(["slow"], prog_name="openbpu")
"""
    env = {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "openbpu: interrupted\n"), (signal.SIGTERM, 143, "")],
)
@pytest.mark.parametrize(
    "body", ["{kill}", "class Of:\n    name = type('T', (), {{'__set_name__': lambda *_: {kill}}})()"]
)
def test_signals_during_an_import_end_the_process_there(
    tmp_path: Path, body: str, number: int, code: int, said: str
) -> None:
    kill = f"os.kill(os.getpid(), {int(number)})"
    inside = textwrap.indent(body.format(kill=kill), "    ")
    text = f"import os\ntry:\n{inside}\nexcept BaseException:\n    pass\n"
    (tmp_path / "greedy.py").write_text(text)
    script = "from openbpu.cli.signals import catch_signals; catch_signals(); import greedy; print('went on')"
    env = {"PYTHONPATH": ":".join([str(tmp_path), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (code, said, "")


def test_an_ignored_interrupt_stays_ignored() -> None:
    script = (
        "import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "from openbpu.cli.signals import catch_signals; catch_signals(); "
        "os.kill(os.getpid(), signal.SIGINT); print('went on')"
    )
    env = {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "went on\n"


def test_an_input_given_twice_is_said(openbpu: Command, files: Path) -> None:
    given = ("--input", f"image={files}/image.npy") * 2
    fails(openbpu("run", files / "cpu.hbm", *given), "input 'image' must be given once, not twice")


def full_disk(_path: Path) -> BinaryIO:
    return os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", buffering=0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_a_full_disk_is_said_with_the_name_of_the_file(
    openbpu: Command, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openbpu.arch.files._created", full_disk)
    monkeypatch.setattr("openbpu.arch.files.check_target", lambda _path: None)
    ran = openbpu("perf", files / "bpu.hbm", "-o", files / "report")
    fails(ran, f"{files}/report/bpu.json: No space left on device")


def test_an_ascii_terminal_survives_every_character(process: Command, files: Path) -> None:
    ran = process("info", files / "cpu.hbm", encoding="ascii", errors="replace")
    assert ran.code == 0, ran.err


def test_guard_lets_usage_errors_pass() -> None:
    import typer

    def fail() -> None:
        raise typer.BadParameter("wrong")

    with pytest.raises(typer.BadParameter):
        guard.guarded(fail)()


def test_an_output_folder_that_cannot_be_is_said_before_anything_runs(
    openbpu: Command, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openbpu.runtime.Session.run", None)
    given = ("--input", f"image={files}/image.npy")
    fails(openbpu("run", files / "cpu.hbm", *given, "-o", files / "cpu.hbm"), "cpu.hbm", "File exists")


@pytest.mark.parametrize("usable", [True, False])
def test_kernels_are_said_to_be_kept_only_where_they_can_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, usable: bool
) -> None:
    from openbpu.cli.screen import say_if_kernels_compile
    from openbpu.simulator.fast.jit import library

    # What earlier tests loaded needs no cache any more.
    monkeypatch.setattr(library, "_library", library.KernelLibrary())
    place = tmp_path / "cache"
    if not usable:
        place.write_text("a file")
    monkeypatch.setenv("OPENBPU_CACHE_DIR", str(place))
    say_if_kernels_compile(bpu_program())
    said = capsys.readouterr().err
    assert ("they are kept in" in said) == usable
    assert ("again each time: they cannot be kept in" in said) == (not usable)
    assert str(place) in said
