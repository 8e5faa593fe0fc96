"""What a compiled program is compared with: the ONNX model itself, on ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch.errors import ModelError, must
from openbpu.runtime.cpu import OPSET, TooNewError, make_engine

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]

_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantize", "QLinear", "QGemm")


class Reference:
    """An ONNX model on ONNX Runtime, meaning what ONNX says: no fusion of QDQ into integer kernels.

    A model of an opset or IR version that this ONNX Runtime does not know is brought back to the newest that
    it does. Raises ModelError for a file that is no model, cannot be brought back or does not run.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1) -> None:
        if not Path(path).is_file():
            raise ModelError(must(str(path), "the model", "an ONNX file", "missing", "check the path"))
        self._where = os.fspath(path)
        self._engine = _engine(self._where, threads)
        self.input_names = [i.name for i in self._engine.get_inputs()]
        self.output_names = [o.name for o in self._engine.get_outputs()]

    @cached_property
    def is_float(self) -> bool:
        """Whether nothing in the model is quantized: then it differs from any binary by the quantization."""
        import onnx  # noqa: PLC0415  # 0.1 s that only a comparison pays

        nodes = onnx.load(self._where, load_external_data=False).graph.node
        return not any(n.op_type.startswith(_QUANTIZED) or n.op_type.endswith("Integer") for n in nodes)

    def run(self, feed: Feed) -> dict[str, Array]:
        """Return the outputs by name."""
        try:
            made = self._engine.run(self.output_names, dict(feed))
        except Exception as error:  # ONNX Runtime has a class per status code and no public base
            raise ModelError(
                f"{self._where}: ONNX Runtime cannot run it: {' '.join(str(error).split())}"
            ) from error
        return {name: np.asarray(y) for name, y in zip(self.output_names, made, strict=True)}


def _engine(path: str, threads: int) -> Any:
    """Return the session of a model, brought back first to what ONNX Runtime knows if it is newer."""
    try:
        return make_engine(path, path, threads)
    except TooNewError as error:
        import onnx  # noqa: PLC0415  # as above

        refused, model = error, onnx.load(path)
    try:
        return make_engine(path, _older(model, refused), threads)
    except TooNewError as second:  # the IR version is looked at first, then the opset
        return make_engine(path, _older(model, second), threads)


def _older(model: Any, refused: TooNewError) -> bytes:
    """Change a ModelProto to what was the newest known; raises `refused` where ONNX cannot."""
    from onnx import version_converter  # noqa: PLC0415  # as above

    try:
        if refused.what == OPSET:
            model.CopyFrom(version_converter.convert_version(model, refused.newest))
        else:
            model.ir_version = refused.newest  # newer ones only added what a model may hold
        return bytes(model.SerializeToString())
    except Exception as error:  # the converter has no class of its own; protobuf refuses more than 2 GiB
        raise refused from error
