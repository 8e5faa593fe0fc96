"""Writing ONNX models: whole or not at all, the same bytes for the same model."""

from __future__ import annotations

import os

from google.protobuf.message import EncodeError
from onnx import ModelProto

from openbpu.arch.errors import ModelError, must
from openbpu.arch.files import write_atomic


def write_model(model: ModelProto, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path` in one step; raises ModelError for a bad path, a full disk, 2 GiB and more."""
    where = os.fspath(path)
    try:
        data = model.SerializeToString(deterministic=True)
    except (ValueError, EncodeError) as error:  # protobuf cannot hold 2 GiB
        raise ModelError(must(where, "the model", "smaller than 2 GiB", f"({error})")) from error
    try:
        write_atomic(path, [data])
    except (OSError, ValueError) as error:  # ValueError: a null byte
        reason = getattr(error, "strerror", None) or error
        fix = "choose another path"
        raise ModelError(must(where, "the output", "writable", f"({reason})", fix)) from error
