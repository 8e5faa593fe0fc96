"""`openbpu verify`: what passes, what fails and what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
        assert "wrong from here on: tensor 'image_QuantizeLinear_Output'" in ran.out
        assert ran.out.endswith("verify: failed, 1 of 1 output differ too much\n")
        why = r"cosine 0\.\d+ is below 0\.9999" if more else r"tensor '\w+': .* steps from float64, not 0\.5"
        assert re.fullmatch(rf"openbpu: output 'logits': {why}\n", ran.err)
    document = openbpu("verify", QUANTIZED, other, "--json").json()
    assert document["passed"] is False
    assert len(document["failures"]) == 1
    assert document["explanation"]["first_wrong"] in document["failures"][0]
    assert openbpu("verify", QUANTIZED, other, "--min-cosine", "-1").code == 0
    assert openbpu("verify", QUANTIZED, other, "--min-cosine", "-1", "--max-steps", "1").code == 1


def test_verify_writes_a_page_but_over_none_of_its_files(
    openbpu: Command, mixed: Path, tmp_path: Path
) -> None:
    page, onnx = tmp_path / "v.html", tmp_path / "mixed.onnx"
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((1, 8, 6, 6), dtype=np.float32))
    ran = openbpu("verify", onnx, mixed, "--page", page, "--input", tmp_path / "x.npy")
    assert f"wrote {page}" in ran.err
    text = page.read_text(encoding="utf-8")
    assert "verify: passed, 1 output compared" in text
    assert f"openbpu verify {onnx}" in text
    assert "--page: must be a file of its own" in openbpu("verify", onnx, mixed, "--page", mixed).err


def test_verify_says_that_the_reference_is_a_float_model(openbpu: Command, hbm: Path) -> None:
    remark = "is a float model: the differences include those of its quantization"
    assert remark in openbpu("verify", DIGITS / "digits.onnx", hbm).out
    ran = openbpu("verify", QUANTIZED, hbm)
    assert remark not in ran.out
    assert ran.out.endswith("verify: passed, 1 output compared, none differs\n")


@pytest.mark.parametrize(
    "option", [("--min-cosine", "nan"), ("--max-steps", "nan"), ("--min-cosine", "2"), ("--max-steps", "-1")]
)
def test_thresholds_that_mean_nothing_are_usage_errors(
    openbpu: Command, hbm: Path, option: tuple[str, str]
) -> None:
    assert openbpu("verify", QUANTIZED, hbm, *option).code == 2


def test_verify_of_another_model_is_refused(openbpu: Command, hbm: Path, mixed: Path, tmp_path: Path) -> None:
    fails(openbpu("verify", tmp_path / "mixed.onnx", hbm), "must be (1, 8, 6, 6), not (1, 1, 8, 8)")
    fails(openbpu("verify", hbm, hbm), "the file must be an ONNX model")
    fails(openbpu("verify", tmp_path / "missing.onnx", hbm), "missing.onnx: No such file or directory")


def test_verify_takes_images_and_folders_of_them(openbpu: Command, hbm: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    one = openbpu("verify", QUANTIZED, hbm, "--input", tmp_path / "a.png", "--json").json()
    both = openbpu("verify", QUANTIZED, hbm, "--input", tmp_path, "--scale", "0.001", "--json").json()
    assert [(d["samples"], d["noise"], d["passed"]) for d in (one, both)] == [
        (1, False, True),
        (2, False, True),
    ]
    assert both["outputs"][0]["max_abs"] != one["outputs"][0]["max_abs"]


def test_verify_takes_samples_stacked_in_one_file(openbpu: Command, hbm: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32))
    found = openbpu("verify", QUANTIZED, hbm, "--input", tmp_path / "x.npz", "--json").json()
    assert (found["samples"], found["outputs"][0]["elements"]) == (5, 50)


def test_verify_takes_floats_for_a_program_of_codes(openbpu: Command, tmp_path: Path) -> None:
    bare = tmp_path / "bare.hbm"
    made = openbpu(
        "compile", QUANTIZED, "-o", bare, "--march", "nash-e", "--remove-io", "quantize,dequantize"
    )
    assert made.code == 0
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((3, 8, 8), dtype=np.float32)[:, None])
    found = openbpu("verify", QUANTIZED, bare, "--input", tmp_path / "x.npy", "--json").json()
    assert (found["samples"], found["passed"], found["outputs"][0]["differing"]) == (3, True, 0)


def test_verify_says_that_it_was_given_noise_only(openbpu: Command, hbm: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.float32))
    assert "no real data given" in openbpu("verify", QUANTIZED, hbm).out
    assert "no real data given" not in openbpu("verify", QUANTIZED, hbm, "--input", tmp_path / "x.npy").out


def test_verify_shows_onnx_runtime_beside_float64(openbpu: Command, hbm: Path) -> None:
    ran = openbpu("verify", QUANTIZED, hbm)
    assert "ONNX Runtime" in ran.out
    found = openbpu("verify", QUANTIZED, hbm, "--json").json()
    assert found["judge"] == "float64"
    assert found["outputs"][0]["onnxruntime"]["cosine"] > 0.999
    assert (found["explanation"], found["float32"], found["remark"]) == (None, [], "")


def test_verify_judges_a_batch_image_by_image(openbpu: Command, tmp_path: Path) -> None:
    hbm = tmp_path / "m.hbm"
    assert openbpu("compile", QUANTIZED, "-o", hbm, "--march", "S100", "--batch", "2").code == 0
    np.save(tmp_path / "x.npy", np.load(DIGITS / "calibration.npz")["image"][:4].reshape(4, 1, 8, 8))
    found = openbpu("verify", QUANTIZED, hbm, "--input", tmp_path / "x.npy", "--json").json()
    assert (found["samples"], found["passed"], found["judge"]) == (2, True, "float64")
    assert found["outputs"][0]["elements"] == 2 * 2 * 10


def test_compile_says_that_a_float_model_needs_quantization(openbpu: Command, tmp_path: Path) -> None:
    for model, silent in ((DIGITS / "digits.onnx", False), (QUANTIZED, True)):
        made = openbpu("compile", model, "-o", tmp_path / "f.hbm", "--march", "S100")
        assert made.code == 0
        assert ("nothing runs on the BPU: a float model is quantized first" in made.err) is not silent
