"""What a network of `accuracy.py` is, and the packages that networks and pictures come from."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accuracy_scores import Array

ROOT = Path(__file__).resolve().parents[1]
Feed = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Samples:
    """Feeds of a network, and what its outputs should say where that is known."""

    feeds: list[Feed]
    truths: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """A score of all predictions, 0 … 1. against: "truth", or "float" for what the float model says."""

    name: str
    against: str
    score: Callable[[Sequence[Any], Sequence[Any]], float]


@dataclass(frozen=True, slots=True)
class Network:
    """A float network with data and measures, the one that counts first.

    package: the distribution on PyPI that ships it, or "" for `file` of this repository. shapes fix the free
    axes of inputs. samples(wheels, test): the calibration or the test set, which share nothing. read(outputs
    in the model's order, model): one sample's prediction.
    """

    name: str
    package: str
    file: str
    shapes: dict[str, tuple[int, ...]]
    samples: Callable[[Wheels, bool], Samples]
    read: Callable[[list[Array], Path], Any]
    measures: tuple[Measure, ...]


class MissingError(Exception):
    """A package or file that is not there: its networks are left out."""


@dataclass(frozen=True, slots=True)
class Wheels:
    """Wheels in a folder, unpacked beside themselves; nothing in them is installed or run.

    Versions are pinned by DISTRIBUTIONS; `download` fetches what is missing with pip.
    """

    folder: Path
    download: bool = False

    def file(self, package: str, name: str) -> Path:
        """Return a file of a distribution. Raises MissingError."""
        path = self.unpacked(package) / name if package else ROOT / name
        if not path.exists():
            raise MissingError(f"{package or 'the repository'} has no {name}")
        return path

    def unpacked(self, package: str) -> Path:
        """Return the folder of a distribution's files. Raises MissingError."""
        wanted = f"{package}=={DISTRIBUTIONS[package]}"
        target = self.folder / wanted
        if not target.exists():
            if not self._wheels(package) and self.download:
                self._fetch(wanted)
            found = self._wheels(package)
            if not found:
                raise MissingError(
                    f"needs {wanted}: --download, or `pip download --no-deps -d {self.folder} {wanted}`"
                )
            with zipfile.ZipFile(found[0]) as wheel:
                wheel.extractall(target)
        return target

    def _wheels(self, package: str) -> list[Path]:
        stem = f"{package.replace('-', '_')}-{DISTRIBUTIONS[package]}-"
        return sorted(self.folder.glob(f"{stem}*.whl"))

    def _fetch(self, wanted: str) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        try:
            subprocess.run([*command, "-d", str(self.folder), wanted], check=True, timeout=900)
        except (OSError, subprocess.SubprocessError) as error:
            raise MissingError(f"pip did not bring {wanted}: {error}") from error


DISTRIBUTIONS = {
    "ddddocr": "1.6.1",
    "magika": "1.0.3",
    "nudenet": "3.4.2",
    "rapidocr": "3.10.0",
    "rapidocr-onnxruntime": "1.4.4",
    "scikit-image": "0.26.0",
    "silero-vad": "6.2.3",
}
