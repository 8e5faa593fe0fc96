"""What a `.npy` says of itself, believed only as far as its bytes go, before memory is taken for it."""

from __future__ import annotations

import math
import os
import tokenize
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from openbpu.arch.errors import InputError, must

NUMBERS = "biufcUS"
"""Kinds of elements that a model's input can have: numbers, and texts of a fixed length."""

_FOREIGN = 64 << 20
"""An array that fits no input is read up to this size, so that what is wrong with it can be said in full."""


@dataclass(frozen=True, slots=True)
class Header:
    """Shape and element type of a stored array, whose bytes are all there."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes that the array takes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes], size: int) -> Header:
    """Read the header at the start of a file of `size` bytes.

    Raises ValueError: no `.npy`, a type without numbers, or more data than the file holds.
    """
    shape, dtype = _described(file)
    if dtype.hasobject:
        raise ValueError("it holds objects")
    if dtype.kind not in NUMBERS or not dtype.itemsize:
        raise ValueError(f"it holds no numbers, but elements of type {dtype}")
    if any(length < 0 for length in shape):
        raise ValueError(f"its shape is {shape}")
    header = Header(tuple(map(int, shape)), dtype)
    held = size - file.tell()
    if header.nbytes > held:
        raise ValueError(f"its header says {header.nbytes} bytes of data, of which {max(held, 0)} are there")
    return header


def _described(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError("its elements have fields" if version == (3, 0) else "its version is unknown")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files of Python 2
            shape, _, dtype = read(file)
    except (SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise ValueError("its header cannot be read") from error
    except ValueError as error:
        if "malformed" in str(error):  # Python's words, with an address in memory
            raise ValueError("its header cannot be read") from error
        raise
    return shape, dtype


def check_room(path: Path, name: str, header: Header, *, fits: bool) -> None:
    """Raise InputError for an array that is too large to be read: for the memory, or for no input at all."""
    what, found = f"array '{name}'" if name else "the array", f"{header.shape} of {header.dtype}"
    if not fits and header.nbytes > _FOREIGN:
        fix = f"it would take {header.nbytes} bytes of memory"
        raise InputError(must(str(path), what, "samples for an input of the model", found, fix))
    most = memory() // 2
    if header.nbytes > most:
        fix = f"at most {most} bytes are read at once; use fewer samples"
        raise InputError(must(str(path), what, "half of the memory", f"{header.nbytes} bytes", fix))


def memory() -> int:
    """Return the bytes of memory of this machine; 64 GiB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 64 << 30
