"""The `openbpu` command, called in this process or in one of its own."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.main import get_command
from typer.models import CommandInfo

from openbpu.arch.hbm import write_hbm
from openbpu.cli.commands import app
from runtime.models import bpu_program, cpu_program, mixed_program
from runtime.qdq import mixed_model

DIGITS = Path(__file__).parents[2] / "models" / "digits"
QUANTIZED = DIGITS / "digits.q.onnx"


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Ran]


@pytest.fixture(autouse=True)
def children_take_interrupts() -> Iterator[None]:
    """Let child processes have the default handler of SIGINT, as under a shell in the foreground.

    A script's `make test &`, nohup and many CI runners ignore the signal, and what is ignored is inherited.
    """
    inherited = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


def printed_by(script: str) -> str:
    """What a Python script prints that runs in a process of its own, with these sources."""
    env = {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    return done.stdout


@functools.cache
def _made(_of: tuple[CommandInfo, ...]) -> Any:
    """The command, made of its functions once: that takes as long as many a test."""
    return get_command(app)


@pytest.fixture
def openbpu(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process: fast, but with this process's signals and imports."""

    def run(*arguments: object) -> Ran:
        with pytest.raises(SystemExit) as ended:
            _made(tuple(app.registered_commands))([str(a) for a in arguments], prog_name="openbpu")
        out, err = capsys.readouterr()
        return Ran(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def process() -> Command:
    """Run the command as a user does."""

    def run(*arguments: object, **options: Any) -> Ran:
        command = [sys.executable, "-m", "openbpu.cli", *map(str, arguments)]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, **options)
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with cpu.hbm, bpu.hbm, mixed.hbm, image.npy (for cpu) and x.npy (for the others)."""
    for name, program in (("cpu", cpu_program()), ("bpu", bpu_program()), ("mixed", mixed_program())):
        write_hbm(program, tmp_path / f"{name}.hbm")
    np.save(tmp_path / "image.npy", np.array([[-1, 0, 1], [2, -2, 0.5]], np.float32))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(1, 4, 4, 8)).astype(np.float32))
    return tmp_path


def fails(ran: Ran, *parts: str, code: int = 1) -> None:
    """One message, nothing on stdout, no traceback."""
    assert ran.code == code, ran
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert ran.err.startswith("openbpu: ")
    assert len(ran.err.splitlines()) == 1
    for part in parts:
        assert part in ran.err


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
