"""No command opens a socket, and none leaves a file in the home folder but the kernels of openbpu itself."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openbpu.simulator.fast import kernel_cache_dir
from runtime.qdq import mixed_model

REPO = Path(__file__).parents[1]
FOLDERS = ("arch", "compiler", "simulator", "quantization", "runtime", "evaluation", "interfaces")
ELSEWHERE = ("tests", "benchmarks", "examples", "models", "docs")
ENGINE = REPO / "runtime" / "openbpu" / "engine" / "__init__.py"
DIGITS = REPO / "models" / "digits"

WATCHED = """
import sys
said = []
sys.addaudithook(lambda event, of: said.append((event, str(of))) if event.startswith("socket.") else None)
"""
COMMANDS = f"""{WATCHED}
from openbpu.cli.commands import app

def openbpu(*arguments):
    try:
        app(list(arguments), prog_name="openbpu")
    except SystemExit as end:
        assert not end.code, (arguments, end.code)

digits, calibration, test = sys.argv[1:]
openbpu("quantize", digits, "--calib", calibration, "-o", "q.onnx")
openbpu("quantize", digits, "--calib", "images", "-o", "i.onnx")
openbpu("check", "mixed.onnx", "--march", "nash-e")
openbpu("compile", "mixed.onnx", "--march", "nash-e", "-o", "q.hbm")
openbpu("info", "q.hbm")
openbpu("disasm", "q.hbm")
openbpu("march", "nash-e")
openbpu("run", "q.hbm", "--input", "image=x.npy", "-o", "out")
openbpu("perf", "q.hbm", "-o", "perf")
openbpu("compile", "q.onnx", "--march", "nash-e", "-o", "d.hbm")
openbpu("verify", "q.onnx", "d.hbm")
openbpu("eval", digits, "q.onnx", "d.hbm", "--data", test, "--metric", "top1", "--limit", "5", "-o", "e.csv")
assert not said, said
"""
EXPORT = f"""{WATCHED}
import torch
from openbpu.quantization.torch import March, QuantStub, export, prepare, set_march
set_march(March.NASH_E)
model = torch.nn.Sequential(QuantStub(), torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
x = (torch.rand(1, 3, 8, 8),)
made = prepare(model, x)
made(*x)
export(made.eval(), x, "made.onnx")
assert not said, said
"""


@dataclass(frozen=True)
class Traced:
    """A script that ran in a home folder of its own: what is in that folder, and its calls for sockets."""

    left: list[str]
    calls: list[str] | None  # without strace: unknown


def traced(folder: Path, script: str, *arguments: object) -> Traced:
    home = folder / "home"
    home.mkdir()
    (folder / "script.py").write_text(script)
    env = {  # nothing else: a variable of CI would keep ONNX Runtime quiet
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "HOME": str(home),
        "OPENBPU_CACHE_DIR": str(kernel_cache_dir().parent),
    }
    log = folder / "strace.txt"
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=socket,connect,sendto", "-o", str(log)]
    watched = strace if can_trace() else []
    command = [*watched, sys.executable, str(folder / "script.py"), *map(str, arguments)]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-500:]
    left = [str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()]
    return Traced(left, log.read_text().splitlines() if watched else None)


def can_trace() -> bool:
    """Whether strace is there and may follow a process: containers often forbid it."""
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-f", "--seccomp-bpf", "true"], capture_output=True, check=False).returncode
        == 0
    )


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    import onnx

    folder = tmp_path_factory.mktemp("traced")
    onnx.save(mixed_model(), folder / "mixed.onnx")
    np.save(folder / "x.npy", np.ones((1, 8, 6, 6), np.float32))
    (folder / "images").mkdir()
    for i in range(2):
        Image.new("L", (8, 8), i).save(folder / "images" / f"{i}.png")
    return traced(folder, COMMANDS, DIGITS / "digits.onnx", DIGITS / "calibration.npz", DIGITS / "test.npz")


def test_no_command_leaves_a_file_at_home(commands: Traced) -> None:
    assert commands.left == []


def test_no_command_asks_the_system_for_a_socket(commands: Traced) -> None:
    if commands.calls is None:
        pytest.skip("strace is not installed, or may not trace here")
    assert commands.calls == []


@pytest.mark.slow
def test_exporting_a_torch_model_sends_nothing(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    found = traced(tmp_path, EXPORT)
    assert found.left == []
    assert not [c for c in found.calls or () if "AF_UNIX" not in c]  # torch asks this machine for the user


def imports(source: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of every module that a file imports."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module


def test_onnx_runtime_is_imported_in_one_place() -> None:
    sources = [p for folder in (*FOLDERS, *ELSEWHERE) for p in (REPO / folder).rglob("*.py") if p != ENGINE]
    for source in sources:
        found = list(imports(source)) if "onnxruntime" in source.read_text(encoding="utf-8") else []
        switched = min((line for line, name in found if name == "openbpu.engine"), default=1 << 30)
        for line, name in found:
            where = f"{source.relative_to(REPO)}:{line}"
            assert name != "onnxruntime", f"{where}: import it from openbpu.engine"
            assert not name.startswith("onnxruntime.") or line > switched, (
                f"{where}: import openbpu.engine first"
            )


FAKE = """
import os
said = [os.environ.get("ORT_DISABLE_TELEMETRY")]
def disable_telemetry_events():
    said.append("disabled")
"""


@pytest.mark.parametrize(
    ("set_to", "said"), [(None, ["1", "disabled"]), ("1", ["1", "disabled"]), ("0", ["0"]), ("", [""])]
)
def test_telemetry_is_off_unless_the_user_set_it_otherwise(
    tmp_path: Path, set_to: str | None, said: list[str]
) -> None:
    (tmp_path / "onnxruntime.py").write_text(FAKE)
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ENGINE.parents[2])])}
    if set_to is not None:
        env["ORT_DISABLE_TELEMETRY"] = set_to
    script = "from openbpu.engine import onnxruntime; print(onnxruntime.said)"
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(said)
