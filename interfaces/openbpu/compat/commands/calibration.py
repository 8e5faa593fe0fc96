"""Calibration samples of a configuration: folders of .npy, raw arrays or pictures, one per input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.compat.commands.ends import End
from openbpu.compat.commands.yaml_file import Lines
from openbpu.compat.samples import folder_samples
from openbpu.quantization.samples import Pixels

_KEY = ("calibration_parameters", "cal_data_dir")


def found_path(text: str, lines: Lines) -> Path:
    """Return a path of the file: from the working directory, or else from where the file lies."""
    path = Path(text).expanduser()
    beside = Path(lines.file).parent / path
    return beside if not path.exists() and not path.is_absolute() and beside.exists() else path


def samples(ends: Sequence[End], lines: Lines) -> dict[str, list[Array]]:
    """Return the samples by input, as many for each, normalised; raises InputError."""
    found: dict[str, list[Array]] = {}
    for end in ends:
        if end.folder is None:
            raise lines.wrong(
                _KEY, f"a folder for input '{end.name}'", "missing", "or calibration_type: skip"
            )
        path = found_path(end.folder, lines)
        if not path.exists():
            raise lines.wrong(_KEY, "a folder", f"'{end.folder}', which is missing", "check the path")
        read = folder_samples(path, end.taker, raw=end.raw, pixels=Pixels(scale=1.0))
        found[end.name] = [end.normalised(_ordered(sample, end, path)) for sample in read]
    counts = {name: len(every) for name, every in found.items()}
    if len(set(counts.values())) > 1:
        raise InputError(
            must("calibration_parameters", "the number of samples", "the same per input", counts)
        )
    return found


def _ordered(sample: Array, end: End, path: Path) -> Array:
    """Return a sample in the order of channels it was trained in: pictures are read as RGB."""
    pictures = path.is_dir() and any(p.suffix.lower() not in {".npy", ".npz"} for p in path.iterdir())
    if end.train == "bgr" and pictures and _has_pictures(path):
        return np.ascontiguousarray(np.flip(sample, -1 if end.last else 1))
    return sample


def _has_pictures(path: Path) -> bool:
    from openbpu.quantization.samples import IMAGES  # noqa: PLC0415  # only where the order matters

    return any(p.suffix.lower() in IMAGES for p in path.iterdir())
