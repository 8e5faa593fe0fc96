"""How commands end: exceptions, signals, closed streams, full disks."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import BinaryIO

import pytest

from interfaces.conftest import Command, fails, printed_by
from openbpu.cli import guard
from openbpu.cli.app import command
from openbpu.cli.commands import app
from runtime.models import bpu_program

_HANG_UP = 1  # SIGHUP, which Windows has not


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


@pytest.mark.usefixtures("signals_as_in_a_terminal")
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (_HANG_UP, 129)])
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
def test_a_hang_up_that_the_parent_ignores_stays_ignored() -> None:
    script = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from openbpu.cli.signals import catch_signals; catch_signals()\n"
        "os.kill(os.getpid(), signal.SIGHUP); print('went on')"
    )
    env = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "went on\n"


@pytest.mark.usefixtures("signals_as_in_a_terminal")
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "openbpu: interrupted\n"), (signal.SIGTERM, 143, ""), (_HANG_UP, 129, "")],
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
    assert printed_by(script) == "went on\n"


def full_disk(_path: Path, _mode: int = 0) -> BinaryIO:
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
