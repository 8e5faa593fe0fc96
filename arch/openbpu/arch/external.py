"""Weights of an ONNX model in files beside it: memory-mapped, and never read from elsewhere.

Both readers of ONNX models ask here; the messages are looked at without onnx, which this package does not
import.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

from openbpu.arch.errors import ModelError, must

_MAX_SHOWN = 300
_MAX_DIGITS = 19  # of an int64


class ExternalFiles:
    """The files of one model, below its folder (None: there is none); each is opened once and mapped."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._maps: dict[Path, mmap.mmap | bytes] = {}

    def data(self, tensor: Any, nbytes: int, where: str) -> memoryview:
        """Return the bytes of an external TensorProto, `nbytes` of them where it does not say how many.

        Raises ModelError for a file that is missing, too short or outside the folder.
        """
        info = {entry.key: entry.value for entry in tensor.external_data}
        path = _inside(self._folder, info.get("location", ""), where)
        data = self._open(path, where)
        offset = _count(info.get("offset", "0"), where, "offset")
        length = _count(info.get("length", str(nbytes)), where, "length")
        if offset + length > len(data):
            fix = "copy the file again, it is truncated"
            raise _problem(where, f"data in {path}", f"{offset + length} bytes long", len(data), fix)
        return memoryview(data)[offset : offset + length]

    def _open(self, path: Path, where: str) -> mmap.mmap | bytes:
        if path not in self._maps:
            self._maps[path] = _map_file(path, where)
        return self._maps[path]


def _problem(where: str, what: str, allowed: object, found: object, fix: str) -> ModelError:
    return ModelError(must(where, what, allowed, found, fix))


def _count(text: str, where: str, key: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > _MAX_DIGITS:
        found = repr(text) if len(text) <= _MAX_DIGITS else f"{text[:8]}… ({len(text)} characters)"
        raise _problem(where, f"external data {key}", "a number of bytes", found, "export the model again")
    return int(text)


def _inside(folder: Path | None, location: str, where: str) -> Path:
    """Resolve `location` below `folder`; refuse everything that leads out of it."""
    if folder is None:
        fix = "pass the path of the .onnx file instead of a ModelProto without its data"
        raise _problem(where, "external data", "reachable", f"'{location}' beside an unknown file", fix)
    if not _stays_inside(folder, location):
        fix = "save the model with its data file beside it"
        raise _problem(
            where, "external data file", f"inside '{folder}', the model's folder", _short(repr(location)), fix
        )
    return folder / location


def _stays_inside(folder: Path, location: str) -> bool:
    named = Path(location)
    if not location or named.is_absolute() or ".." in named.parts or "\\" in location or "\0" in location:
        return False
    try:
        return (folder / location).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        return False


def _map_file(path: Path, where: str) -> mmap.mmap | bytes:
    try:
        if path.is_file() or not path.exists():  # opening a pipe would wait for its writer
            with path.open("rb") as file:
                empty = os.fstat(file.fileno()).st_size == 0
                return b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: what the system cannot map
        missing, fix = isinstance(error, FileNotFoundError), "put the data file beside the model"
        found = "missing" if missing else f"unreadable ({getattr(error, 'strerror', None) or error})"
        raise _problem(where, "external data file", _short(str(path)), found, fix) from error
    raise _problem(where, "external data", "in a regular file", _short(str(path)), "save the model again")


def _short(path: str) -> str:
    return path if len(path) <= _MAX_SHOWN else f"{path[:_MAX_SHOWN]}…"
