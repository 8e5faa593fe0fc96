"""A path or a ModelProto to a ModelProto that is surely an ONNX model, its local functions inlined."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto

from openbpu.arch.errors import ModelError, must

_IR_VERSION_TAG = b"\x08"  # field 1 as varint: the first byte every exporter writes


def load_proto(model: str | os.PathLike[str] | ModelProto) -> tuple[ModelProto, Path | None]:
    """Return the model and the folder its external data may lie in (None for a ModelProto).

    Raises ModelError when the path is missing, a folder, empty or no ONNX model. A given ModelProto is not changed.
    """
    if isinstance(model, ModelProto):
        _must_be_model(model, "model")
        return model, None
    path = Path(os.fspath(model))
    proto = _parse(_read(path), path)
    _must_be_model(proto, str(path))
    return proto, path.parent


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(must(str(path), "model", "an ONNX file", "a folder", "name the .onnx file in it"))
    if not path.exists():
        raise ModelError(must(str(path), "model", "an ONNX file", "missing", "check the path"))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(must(str(path), "model", "a readable file", f"unreadable ({error.strerror})")) from error
    if not data:
        raise ModelError(must(str(path), "model", "an ONNX file", "empty", "export it again"))
    return data


def _parse(data: bytes, path: Path) -> ModelProto:
    try:
        return onnx.load_model_from_string(data)
    except DecodeError as error:
        if data.startswith(_IR_VERSION_TAG):
            fix = "copy or export the file again"
            raise ModelError(must(str(path), "model", "a whole ONNX file", "truncated or damaged", fix)) from error
        raise ModelError(must(str(path), "model", "an ONNX file", "something else", "export to ONNX first")) from error


def _must_be_model(proto: ModelProto, where: str) -> None:
    if not proto.HasField("graph") or not proto.ir_version:
        raise ModelError(must(where, "model", "an ONNX model", "something else", "export to ONNX first"))
    if proto.graph.input or proto.graph.output or proto.graph.node:
        return
    raise ModelError(must(where, "graph", "a list of nodes with outputs", "empty", "export the model again"))
