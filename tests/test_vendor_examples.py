"""Facts about examples/vendor: every script runs as it is, and what it prints is what it computed."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from openbpu.compat.__main__ import main
from openbpu.compat.commands import run
from openbpu.compat.finder import VendorFinder, VendorModule

EXAMPLES = Path(__file__).parents[1] / "examples" / "vendor"
DIGITS = EXAMPLES.parents[1] / "models" / "digits"
HAS_TORCH = importlib.util.find_spec("torch") is not None

SAYS = {
    "train": r"calibrated model: \d",
    "compile": r"image \(1, 1, 8, 8\) int8 \(0\.\d+,\)",
    "quantize": r"most sensitive: \S+",
    "board": r"(19|20) of 20 right",
    "board_older": r"(19|20) of 20 right",
    "stages": r"\.hbm: digit \d",
}


@pytest.fixture
def own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no trace of a script in this process."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, VendorFinder)]
    for name in set(sys.modules) - before:
        if isinstance(sys.modules[name], VendorModule):
            del sys.modules[name]


@pytest.mark.usefixtures("own_process")
@pytest.mark.parametrize("name", SAYS)
def test_a_script_for_the_vendors_modules_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "train" and not HAS_TORCH:
        pytest.skip("needs torch")
    monkeypatch.chdir(tmp_path)
    assert main([str(EXAMPLES / f"{name}.py"), str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert re.search(SAYS[name], out), out
    assert any(tmp_path.iterdir())
    if name == "stages":
        assert len(set(re.findall(r"digit (\d)", out))) == 1


def test_every_script_is_run_and_named_in_the_readme() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAYS)
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"`{path.name}`" in text for path in EXAMPLES.iterdir() if path.suffix in {".py", ".yaml"})


def test_the_yaml_becomes_a_file_that_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "digits_calibration"
    folder.mkdir()
    for n, image in enumerate(np.load(DIGITS / "calibration.npz")["image"][:16]):
        (folder / f"{n:02}.bin").write_bytes((image * 16).astype(np.float32).tobytes())
    shutil.copy(EXAMPLES / "digits.yaml", tmp_path / "digits.yaml")
    text = (tmp_path / "digits.yaml").read_text().replace("../../models", str(DIGITS.parent))
    (tmp_path / "digits.yaml").write_text(text)
    assert run("hb_compile", ["-c", "digits.yaml"]) == 0
    assert run("hrt_model_exec", ["perf", "--model_file", "digits_output/digits.hbm"]) == 0
    assert "FPS:" in capsys.readouterr().out
