"""Folders of calibration samples as the vendor's tools take them: .npy, raw arrays, pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.quantization.samples import IMAGES, Changes, Input, Pixels, read_samples

_MOST = 2 << 30
"""Bytes of a raw file that are read."""


def folder_samples(
    folder: Path, taker: Input, *, raw: str = "float32", pixels: Pixels | None = None
) -> list[Array]:
    """Return the samples in a folder, or in one file, in the order of names, each of the input's shape.

    raw: type of the numbers in files that are neither .npy nor pictures · pixels: what becomes of pictures,
    as they are unless given. Raises InputError for a folder without samples and for what does not fit.
    """
    if not folder.exists():
        raise InputError(must(str(folder), "calibration data", "a folder", "missing", "check the path"))
    files = sorted(p for p in folder.iterdir() if p.is_file()) if folder.is_dir() else [folder]
    known = {".npy", ".npz", *IMAGES}
    if files and not any(p.suffix.lower() in known for p in files):
        return [_raw(path, taker, raw) for path in files]
    found = read_samples(folder, taker, pixels or Pixels(scale=1.0), Changes())
    return [_shaped(sample.read(), taker, sample.label) for sample in found]


def _raw(path: Path, taker: Input, dtype: str) -> Array:
    if path.stat().st_size > _MOST:
        raise InputError(must(str(path), "a raw file", f"at most {_MOST} bytes", path.stat().st_size))
    values = path.read_bytes()
    kind = np.dtype(dtype)
    if len(values) % kind.itemsize:
        raise InputError(must(str(path), "a raw file", f"made of {dtype} numbers", f"{len(values)} bytes"))
    return _shaped(np.frombuffer(values, kind), taker, str(path))


def _shaped(values: Array, taker: Input, where: str) -> Array:
    """Return the values in the input's shape, where they are as many; raw files have none."""
    shape = taker.shape
    if shape is None or taker.takes(values.shape):
        return values
    sizes = _sizes(shape, values.size)
    if sizes is None:
        raise InputError(must(where, "the sample", f"of the shape {taker.shown}", values.shape))
    return values.reshape(sizes)


def _sizes(shape: Sequence[int | str | None], elements: int) -> tuple[int, ...] | None:
    """Return the shape that holds so many elements, its one free axis filled in; None where none does."""
    free = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    known = math.prod(size for size in shape if isinstance(size, int))
    if len(free) > 1 or not known or elements % known or (not free and elements != known):
        return None
    return tuple(size if isinstance(size, int) else elements // known for size in shape)
