"""ONNX in, frozen `Graph` out: one normal form for every opset, with constants folded and shapes known."""

from __future__ import annotations

from openbpu.compiler.reader.export import to_onnx
from openbpu.compiler.reader.read import check_readable, read_model

__all__ = ["check_readable", "read_model", "to_onnx"]
