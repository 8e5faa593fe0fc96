"""Fixtures of the tests of `openbpu eval`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from evaluation.accuracy_models import scorer
from evaluation.accuracy_runs import npz


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Path, Path]:
    """A model that returns what it gets, and four samples of three scores: labels at ranks 0, 1, 2, 0."""
    x = np.array([[3, 2, 1], [3, 2, 1], [3, 2, 1], [0, 0, 9]], np.float32)
    return scorer(tmp_path / "m.onnx"), npz(tmp_path / "d.npz", x=x, labels=[0, 1, 2, 2])


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Writes a module `mine` into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str) -> None:
        sys.modules.pop("mine", None)
        (tmp_path / "mine.py").write_text(text)

    yield write
    sys.modules.pop("mine", None)
