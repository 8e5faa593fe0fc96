"""What a compiled program is compared with: the ONNX model itself, on ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import ModelError, must
from openbpu.arch.protos import external_tensors
from openbpu.runtime.cpu import OPSET, TooNewError, make_engine, run_failure

if TYPE_CHECKING:
    from onnx import ModelProto

Feed = Mapping[str, Array]


class Reference:
    """An ONNX model on ONNX Runtime, meaning what ONNX says: nothing is optimised.

    A model of an opset or IR version that this ONNX Runtime does not know is brought back to the newest that
    it does. inputs, outputs: ONNX Runtime's, each with `name`, `shape` and `type`.

    Raises ModelError for a file that is no model, cannot be brought back or does not run.
    """

    def __init__(self, model: str | os.PathLike[str] | ModelProto, *, threads: int = 1) -> None:
        """`model`: a path, or a ModelProto whose weights are inside."""
        if isinstance(model, (str, os.PathLike)):
            if not Path(model).is_file():
                raise ModelError(must(str(model), "the model", "an ONNX file", "missing", "check the path"))
            self._engine = _engine(os.fspath(model), os.fspath(model), threads)
        else:
            where = f"model '{model.graph.name}'"
            _must_be_whole(where, model)
            self._engine = _engine(where, model.SerializeToString(), threads)
        self._where = os.fspath(model) if isinstance(model, (str, os.PathLike)) else model.graph.name
        self.inputs: Sequence[Any] = self._engine.get_inputs()
        self.outputs: Sequence[Any] = self._engine.get_outputs()
        self.input_names = [i.name for i in self.inputs]
        self.output_names = [o.name for o in self.outputs]

    def run(self, feed: Feed) -> dict[str, Array]:
        """Return the outputs by name."""
        try:
            made = self._engine.run(self.output_names, dict(feed))
        except Exception as error:  # ONNX Runtime has a class per status code and no public base
            raise run_failure(self._where, error) from error
        return {name: np.asarray(y) for name, y in zip(self.output_names, made, strict=True)}


def _engine(where: str, source: str | bytes, threads: int) -> Any:
    """Return the session of a model, brought back first to what ONNX Runtime knows if it is newer."""
    try:
        return make_engine(where, source, threads, plain=True)
    except TooNewError as error:
        import onnx  # noqa: PLC0415  # as above

        refused = error
        model = onnx.load(source) if isinstance(source, str) else onnx.load_from_string(source)
        _must_be_whole(where, model)
    try:
        return make_engine(where, _older(model, refused), threads, plain=True)
    except TooNewError as second:  # the IR version is looked at first, then the opset
        return make_engine(where, _older(model, second), threads, plain=True)


def _must_be_whole(where: str, model: Any) -> None:
    """Refuse weights in other files: of bytes, ONNX Runtime would look for them in the current folder."""
    for tensor in external_tensors(model):
        fix = "load it with onnx.load, which reads external data"
        raise ModelError(
            must(where, f"the data of '{tensor.name}'", "inside the model", "in another file", fix)
        )


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
