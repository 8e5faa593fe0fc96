"""Facts about the model that ships: its files belong together, and the documented command makes them."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from interfaces.conftest import Command, openbpu

__all__ = ["openbpu"]  # the fixture

DIGITS = Path(__file__).parents[1] / "models" / "digits"
MOST_BYTES = 200_000


def test_shipped_files_are_small() -> None:
    assert sum(f.stat().st_size for f in DIGITS.iterdir() if f.is_file()) < MOST_BYTES


def test_test_set_is_200_images_apart_from_calibration() -> None:
    test, calibration = np.load(DIGITS / "test.npz"), np.load(DIGITS / "calibration.npz")["image"]
    assert test["images"].shape == (200, 1, 8, 8)
    assert np.unique(test["labels"]).tolist() == list(range(10))
    seen = {image.tobytes() for image in (calibration * 16).astype(np.uint8)}
    assert not any(image.tobytes() in seen for image in test["images"])


def test_documented_command_makes_the_quantized_model(openbpu: Command, tmp_path: Path) -> None:
    made = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for path in made:
        files = DIGITS / "digits.onnx", "--calib", DIGITS / "calibration.npz", "-o", path
        ran = openbpu("quantize", *files, "--no-bias-correction")
        assert ran.code == 0, ran
    assert made[0].read_bytes() == made[1].read_bytes()
    new, shipped = (onnx.load(path).graph for path in (made[0], DIGITS / "digits.q.onnx"))
    assert list(new.node) == list(shipped.node)
    for mine, theirs in zip(new.initializer, shipped.initializer, strict=True):
        # Not equal bytes: on another CPU ONNX Runtime sums floats in another order while it calibrates.
        assert (mine.name, mine.data_type) == (theirs.name, theirs.data_type)
        np.testing.assert_allclose(numpy_helper.to_array(mine), numpy_helper.to_array(theirs), rtol=1e-5)
