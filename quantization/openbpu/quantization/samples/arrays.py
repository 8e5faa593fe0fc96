"""NumPy's files, and the samples that are stacked in one array."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.quantization.samples.headers import check_room, read_header
from openbpu.quantization.samples.inputs import Input

_FIX = "write it with numpy.save or numpy.savez, without objects"

_UNPACKED = 256 << 20
"""A compressed file may unpack to this many bytes whatever its own size is, …"""

_RATIO = 100
"""… and to so many times its own size beyond: what exceeds that is made to exhaust the memory."""

_ARRAYS = 1000
"""An `.npz` holds an array per input, and at most some more: each costs a look at its header."""

_ERRORS = (
    OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError,
    struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip
"""What NumPy, the parser of headers and the unpackers raise for files that are none of theirs."""

Fits = Callable[[str, tuple[int, ...]], bool]


def read_numpy(
    path: Path,
    takers: Sequence[Input],
    *,
    what: str = "the file",
    allowed: str = "a .npy or .npz file",
    fix: str = _FIX,
) -> Array | dict[str, Array]:
    """Return the array of a `.npy`, the arrays by name of an `.npz`, in this machine's byte order.

    takers: the inputs that it is for. Headers are checked first, so memory is only taken for data that are
    there and, where they are large, for what one of the inputs can take. Raises InputError:
    `<path>: <what> must be <allowed>, not (<reason>); <fix>`.
    """

    def fits(name: str, shape: tuple[int, ...]) -> bool:
        return any(t.could_take(shape) for t in [t for t in takers if t.name == name] or takers)

    try:
        with path.open("rb") as file:
            start = file.read(len(np.lib.format.MAGIC_PREFIX))
            file.seek(0)
            if start[:2] == b"PK":
                return _archive(path, file, fits)
            if start != np.lib.format.MAGIC_PREFIX:
                raise ValueError("it is no NumPy file" if start else "it is empty")
            return _array(path, "", file, path.stat().st_size, fits)
    except MemoryError as error:
        raise InputError(must(str(path), what, "small enough for the memory", "larger", fix)) from error
    except _ERRORS as error:
        raise InputError(must(str(path), what, allowed, f"({reason(error)})", fix)) from error


def _archive(path: Path, file: IO[bytes], fits: Fits) -> dict[str, Array]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        unpacked, packed = sum(m.file_size for m in members), path.stat().st_size
        if unpacked > max(_UNPACKED, _RATIO * packed):
            raise ValueError(f"its {packed} bytes unpack to {unpacked}, over {_RATIO} times as many")
        if len(members) > _ARRAYS:
            raise ValueError(f"it holds {len(members):,} arrays, over {_ARRAYS:,}: stack the samples in one")
        arrays = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            with archive.open(member, mode="r") as stored:
                arrays[name] = _array(path, name, stored, member.file_size, fits)
        return arrays


def _array(path: Path, name: str, file: IO[bytes], size: int, fits: Fits) -> Array:
    try:
        header = read_header(file, size)
        check_room(path, name, header, fits=fits(name, header.shape))
        file.seek(0)
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    except _ERRORS as error:
        if not name:
            raise
        raise ValueError(f"array '{name}': {reason(error)}") from error
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def reason(error: Exception) -> str:
    """Return in one line what the system or NumPy says; nobody is told to load a pickle."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    if "allow_pickle" in text or "pickled" in text or "magic string" in text:
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
