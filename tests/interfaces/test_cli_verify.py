"""`openbpu verify`: what passes, what fails and what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest

from interfaces.conftest import DIGITS, QUANTIZED, Command, fails


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
