"""What every command prints without a model: help, versions, marches, wrong usage."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from interfaces.conftest import Command, fails, printed_by
from openbpu.arch.march import march_names

COMMANDS = ("check", "quantize", "compile", "info", "run", "perf", "verify", "disasm", "march")


@pytest.mark.parametrize("arguments", [(), *[(name,) for name in COMMANDS]], ids=str)
def test_h_is_help(openbpu: Command, arguments: tuple[str, ...]) -> None:
    assert openbpu(*arguments, "-h") == openbpu(*arguments, "--help")
    assert openbpu(*arguments, "-h").code == 0


def test_the_namespace_runs_as_a_module() -> None:
    for module in ("openbpu", "openbpu.cli"):
        env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        told = subprocess.run(
            [sys.executable, "-m", module, "--version"], env=env, capture_output=True, text=True, check=False
        )
        assert (told.returncode, told.stdout) == (0, f"openbpu {version('openbpu')}\n"), told


def completed(process: Command, *words: str) -> list[str]:
    """What a shell offers for the last word."""
    asked = {
        "_OPENBPU_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    with pytest.MonkeyPatch.context() as patch:
        for key, value in asked.items():
            patch.setenv(key, value)
        return process().out.split()


def test_a_shell_completes_commands_options_and_marches(process: Command) -> None:
    assert completed(process, "openbpu", "ch") == ["check"]
    assert completed(process, "openbpu", "check", "m.onnx", "--mar") == ["--march"]
    assert completed(process, "openbpu", "check", "m.onnx", "--march", "S1") == ["S100", "S100P"]
    assert completed(process, "openbpu", "check", "m.onnx", "--march", "s1") == ["s100", "s100p"]


def test_completion_is_shown_without_being_installed(process: Command, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        patch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
        shown = process("--show-completion", "bash")
    assert "complete -o default -F _openbpu_completion openbpu" in shown.out
    assert list(tmp_path.iterdir()) == []


def test_completion_that_cannot_be_installed_is_said(process: Command, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path / "home"))
        patch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
        fails(process("--install-completion", "bash"), "check the path")


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
    assert printed_by(script) == "[]\n"


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


COMPILE = ("compile", "a.onnx", "-o", "a.hbm", "--march", "nash-e")
VERIFY = ("verify", "a.onnx", "a.hbm")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*COMPILE, "--balance", "101"), "--balance: must be a whole number in 0..100, not 101; 0 is for"),
        (
            (*COMPILE, "--balance", "half"),
            "--balance: must be a whole number in 0..100, not 'half'; 0 is for",
        ),
        ((*COMPILE, "-O", "7"), "-O / --opt: must be a whole number in 0..2, not 7; 2 gives"),
        (
            (*COMPILE, "--max-l2m-size=-1"),
            "--max-l2m-size: must be a whole number, 0 or more, not -1; it is in",
        ),
        (
            (*COMPILE, "--core-num", "0"),
            "--core-num: must be a whole number, 1 or more, not 0; `openbpu march`",
        ),
        (
            (*COMPILE, "--core-num", "1.5"),
            "--core-num: must be a whole number, 1 or more, not '1.5'; `openbpu",
        ),
        (
            (*COMPILE, "--bpu", ""),
            "--bpu: must be an operator or a node of the model, not ''; `openbpu check`",
        ),
        (("check", "a.onnx", "--march", "nash-e", "--bpu", " ,"), "--bpu: must be an operator or a node of"),
        (("perf", "a.hbm", "-o", ""), "-o / --output: must be a folder, not ''; '.' is"),
        (("run", "a.hbm", "-o", ""), "-o / --output: must be a folder, not ''; '.' is"),
        ((*COMPILE[:-1], "nash-x"), "--march: must be one of bayes-e, "),
        ((*COMPILE, "--shape", "x"), "--shape: must be NAME=1,3,224,224, not 'x'; give"),
        ((*VERIFY, "--threads", "257"), "--threads: must be a whole number in 1..256, not 257; the cores"),
        ((*VERIFY, "--samples", "0"), "--samples: must be a whole number, 1 or more, not 0; 1 is"),
        ((*VERIFY, "--seed=-1"), "--seed: must be a whole number, 0 or more, not -1; 0 is"),
        ((*VERIFY, "--min-cosine", "1.5"), "--min-cosine: must be a number in -1..1, not 1.5; 1 asks"),
        ((*VERIFY, "--max-steps", "nan"), "--max-steps: must be a number, 0 or more, not 'nan'; 1 allows"),
        (
            ("quantize", "a.onnx", "--calib", "c", "-o", "q.onnx", "--scale", "x"),
            "--scale: must be a number, not 'x'; 0.0039",
        ),
    ],
)
def test_a_wrong_value_is_told_with_what_is_allowed_and_what_to_do(
    openbpu: Command, arguments: tuple[str, ...], told: str
) -> None:
    ran = openbpu(*arguments)
    assert ran.code == 2
    assert f"\nError: {told}" in ran.err


@pytest.mark.parametrize(
    ("march", "option", "value", "told"),
    [
        ("nash-e", "--core-num", "9", "must be 1, not 9; nash-e has 1 BPU core"),
        ("nash-h", "--core-num", "9", "must be a whole number in 1..3, not 9; nash-h has 3 BPU cores"),
        ("nash-e", "--max-l2m-size", "64", "must be 0, not 64; nash-e has no L2M; nash-p and nash-h have"),
        (
            "nash-p",
            "--max-l2m-size",
            "25165825",
            "must be a whole number in 0..25165824, not 25165825; it is",
        ),
    ],
)
def test_what_the_march_has_not_is_refused_under_the_name_of_the_option(
    openbpu: Command, tmp_path: Path, march: str, option: str, value: str, told: str
) -> None:
    out = tmp_path / "q.hbm"
    model = Path(__file__).parents[2] / "models" / "digits" / "digits.q.onnx"
    ran = openbpu("compile", str(model), "-o", str(out), "--march", march, option, value)
    fails(ran, f"openbpu: {option}: {told}")
    assert not out.exists()


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


@pytest.mark.parametrize(
    "arguments",
    [
        ("march", "NASH-E"),
        ("march", "S100"),
        ("info", "{}/cpu.hbm", "--march", "Nash-E"),
        ("info", "{}/cpu.hbm", "--march", "journey 6e"),
    ],
)
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
