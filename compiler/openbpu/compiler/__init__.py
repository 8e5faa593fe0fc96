"""A quantized ONNX model becomes a program: read, fold, integerise, place, partition, schedule, emit.

Imports `openbpu.arch`, onnx and numpy. It never imports the simulator: they meet in the bytes of the `.hbm`.
"""

from openbpu.compiler.api import check, compile  # noqa: A004 - the word of the field

__all__ = ["check", "compile"]
