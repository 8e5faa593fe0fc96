"""A path or a ModelProto to a ModelProto that is surely an ONNX model, of an opset that can be read."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import cast

from google.protobuf.message import DecodeError
from onnx import ModelProto, version_converter

from openbpu.arch.runnable import check_runnable
from openbpu.arch.unfolding import check_functions, check_nesting
from openbpu.compiler.reader.check import OLDEST_OPSET
from openbpu.compiler.reader.problem import problem

_IR_VERSION_TAG = b"\x08"  # field 1 as varint: the first byte every exporter writes


def load_proto(model: str | os.PathLike[str] | ModelProto) -> tuple[ModelProto, Path | None]:
    """Return the model and the folder its external data may lie in (None for a ModelProto).

    Raises ModelError when the path is missing, a folder, empty or no ONNX model, and for graphs within graphs
    or functions that unfold to more than `arch.unfolding` allows.
    """
    if isinstance(model, ModelProto):
        _must_be_model(model, "model")
        return model, None
    if not isinstance(model, str | os.PathLike):
        raise problem("model", "what is compiled", "a path or a ModelProto", f"{type(model).__name__}")
    path = Path(os.fspath(model))
    proto = _parse(_read(path), path)
    _must_be_model(proto, str(path))
    return proto, path.parent


def _read(path: Path) -> memoryview:
    try:
        if path.is_dir():
            raise problem(str(path), "model", "an ONNX file", "a folder", "name the .onnx file in it")
        if not path.exists():
            raise problem(str(path), "model", "an ONNX file", "missing", "check the path")
        return _mapped(path)
    except (OSError, ValueError) as error:  # ValueError: what cannot be mapped, and a name with a null byte
        found = f"unreadable ({getattr(error, 'strerror', None) or error})"
        raise problem(str(path), "model", "a readable file", found, "check the path") from error


def _mapped(path: Path) -> memoryview:
    """Map the file: parsing then copies its bytes once instead of twice."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise problem(str(path), "model", "an ONNX file", "empty", "export it again")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _parse(data: memoryview, path: Path) -> ModelProto:
    proto = ModelProto()
    try:
        proto.ParseFromString(cast(bytes, data))
    except DecodeError as error:
        if data[:1] == _IR_VERSION_TAG:
            fix = "copy or export the file again"
            raise problem(str(path), "model", "a whole ONNX file", "truncated or damaged", fix) from error
        raise problem(str(path), "model", "an ONNX file", "something else", "export to ONNX first") from error
    return proto


def at_readable_opset(proto: ModelProto) -> ModelProto:
    """Return the model at an opset the rules know: onnx's own converter brings opset 1..6 to 7."""
    version = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if not 0 < version < OLDEST_OPSET:
        return proto
    try:
        return version_converter.convert_version(proto, OLDEST_OPSET)
    except Exception as error:
        fix = "export the model with opset 13 or newer"
        raise problem("model", "opset of ai.onnx", f"{OLDEST_OPSET} or newer", version, fix) from error


def _must_be_model(proto: ModelProto, where: str) -> None:
    if not proto.HasField("graph") or not proto.ir_version:
        raise problem(where, "model", "an ONNX model", "something else", "export to ONNX first")
    if proto.graph.input or proto.graph.output or proto.graph.node:
        check_nesting(proto.graph)
        check_functions(proto)
        check_runnable(proto)
        return
    raise problem(where, "graph", "a list of nodes with outputs", "empty", "export the model again")
