"""NumPy's files, and the samples that are stacked in one array."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from openbpu.arch.errors import InputError, must
from openbpu.quantization.samples.inputs import Array, Input

_FIX = "write it with numpy.save or numpy.savez, without objects"


def read_numpy(
    path: Path, *, what: str = "the file", allowed: str = "a .npy or .npz file", fix: str = _FIX
) -> Array | dict[str, Array]:
    """Return the array of a `.npy`, the arrays by name of an `.npz`.

    Raises InputError: `<path>: <what> must be <allowed>, not (<reason>); <fix>`.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(must(str(path), what, allowed, f"({reason(error)})", fix)) from error


def reason(error: Exception) -> str:
    """Return in one line what the system or NumPy says; nobody is told to load a pickle."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    if "allow_pickle" in text or "pickled" in text:
        return "it holds objects" if "Object arrays" in text else "it is no NumPy file"
    return text or type(error).__name__


def split(array: Array, taker: Input) -> list[Array] | None:
    """Return the runs that are stacked in `array`: (N, *shape), or (N·B, …) for an input (B, …).

    None where the axes do not come out even; sizes other than the first are not looked at.
    """
    shape = taker.shape
    if shape is None or array.ndim == len(shape) + 1:
        return list(array)
    if array.ndim != len(shape) or array.ndim == 0 or shape[0] == 0 or len(array) % taker.batch:
        return None
    return [array[start : start + taker.batch] for start in range(0, len(array), taker.batch)]
