"""Writing ONNX models: whole or not at all, the same bytes for the same model, of any size."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, EncodeError, Message
from onnx import ModelProto, TensorProto

from openbpu.arch.errors import ModelError, must
from openbpu.arch.files import Chunk, write_atomic
from openbpu.arch.protos import external_tensors

LIMIT = (1 << 31) - (1 << 20)
"""Bytes of a file that protobuf reads and writes for sure: it stops at 2 GiB."""

_LEAST = 1024
"""Smaller initializers stay in the model: shapes, axes and scales are read without the weights."""

_ALIGNMENT = 4096
"""Every array begins at a page, so that it can be mapped into memory."""


def write_model(
    model: ModelProto, path: str | os.PathLike[str], *, outside: bool = False, limit: int = LIMIT
) -> None:
    """Write `model` to `path` in one step.

    Where its initializers take `limit` bytes or more, or `outside` says so, their data go to a file beside
    it, `PATH.DIGEST.data`, before that: the name follows from the data, so no other file is overwritten and
    the old model at `path` keeps its own. Raises ModelError for a bad path, a full disk, and a model of 2 GiB
    whose weights are not initializers of its graph.
    """
    if not outside and sum(map(_nbytes, model.graph.initializer)) < limit:
        _write(path, [_serialized(model, path)])
        return
    stored = [t for t in model.graph.initializer if t.HasField("raw_data") and _nbytes(t) >= _LEAST]
    if not stored:
        _write(path, [_serialized(model, path)])
        return
    target = Path(path)
    data = target.with_name(f"{target.name}.{_digest(stored)}.data")
    light = _serialized(_pointing(model, data.name), path)
    was_there = data.exists()
    _write(data, _pieces(stored))
    try:
        _write(path, [light])
    except BaseException:
        if not was_there:
            with contextlib.suppress(OSError):
                data.unlink()
        raise


def data_files(path: str | os.PathLike[str]) -> list[Path]:
    """Return the other files that the model at `path` names for its data, in the order of their names.

    Raises OSError for a file that cannot be read, ModelError for one that is no ONNX model.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (ValueError, DecodeError) as error:  # a null byte in the path; a file of something else
        raise ModelError(must(os.fspath(path), "the file", "an ONNX model", f"({error})")) from error
    locations = {e.value for t in external_tensors(model) for e in t.external_data if e.key == "location"}
    return [Path(path).parent / location for location in sorted(locations)]


def _serialized(model: ModelProto, path: str | os.PathLike[str]) -> bytes:
    try:
        data: bytes = model.SerializeToString(deterministic=True)
    except (ValueError, EncodeError) as error:  # protobuf cannot hold 2 GiB
        raise ModelError(must(os.fspath(path), "the model", "smaller than 2 GiB", f"({error})")) from error
    return data


def _write(path: str | os.PathLike[str], chunks: Iterable[Chunk]) -> None:
    try:
        write_atomic(path, chunks)
    except (OSError, ValueError) as error:  # ValueError: a null byte
        reason = getattr(error, "strerror", None) or error
        fix = "choose another path"
        raise ModelError(must(os.fspath(path), "the output", "writable", f"({reason})", fix)) from error


def _nbytes(tensor: TensorProto) -> int:
    """Return about how many bytes the data of an initializer take: at least half, at most what they do."""
    known = onnx.helper.get_all_tensor_dtypes()
    item = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize if tensor.data_type in known else 1
    return int(item * math.prod(tensor.dims))


def _digest(tensors: Iterable[TensorProto]) -> str:
    made = hashlib.blake2b(digest_size=8)
    for piece in _pieces(tensors):
        made.update(piece)
    return made.hexdigest()


def _pieces(tensors: Iterable[TensorProto]) -> Iterator[bytes]:
    """Yield what the file of data holds, array after array."""
    for tensor in tensors:
        yield tensor.raw_data
        yield bytes(-len(tensor.raw_data) % _ALIGNMENT)


def _pointing(model: ModelProto, location: str) -> ModelProto:
    """Return `model` with its large initializers in the file `location`, and no copy of them."""
    light = ModelProto()
    _copy(model, light, {"graph"})
    _copy(model.graph, light.graph, {"initializer"})
    offset = 0
    for tensor in model.graph.initializer:
        made = light.graph.initializer.add()
        if not tensor.HasField("raw_data") or _nbytes(tensor) < _LEAST:
            made.CopyFrom(tensor)
            continue
        _copy(tensor, made, {"raw_data"})
        made.data_location = TensorProto.EXTERNAL
        length = len(tensor.raw_data)
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
            made.external_data.add(key=key, value=value)
        offset += length + -length % _ALIGNMENT
    return light


def _copy(message: Message, to: Any, without: set[str]) -> None:
    """Copy the fields of a message but for some."""
    for field, value in message.ListFields():
        if field.name in without:
            continue
        if isinstance(value, Message):
            getattr(to, field.name).CopyFrom(value)
        elif hasattr(value, "extend"):
            getattr(to, field.name).extend(value)
        else:
            setattr(to, field.name, value)
