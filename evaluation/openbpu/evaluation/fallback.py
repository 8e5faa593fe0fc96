"""What the float64 reference has no kernel for: one node on ONNX Runtime, in float64 where that has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from openbpu.arch.arrays import Array
from openbpu.arch.errors import ModelError
from openbpu.runtime.cpu import make_engine

_IR = 10
_FLOATS = (np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.float16))


class OnnxRuntime:
    """Runs nodes as `reference.Fallback` wants it; engines are kept, so that a node is loaded once.

    `narrow` names the operators that it has no float64 kernel for.
    """

    def __init__(self, model: onnx.ModelProto, threads: int = 1) -> None:
        self._domains = [i for i in model.opset_import if i.domain not in ("", "ai.onnx")]
        self._threads = threads
        self.narrow: set[str] = set()
        self._engines: dict[tuple[Any, ...], tuple[Any, np.dtype[Any]]] = {}

    def __call__(self, node: onnx.NodeProto, values: Mapping[str, Array], opset: int) -> tuple[Array, ...]:
        """Return the outputs of a node. Raises NotImplementedError, naming it, where nothing runs it."""
        key = (tuple(node.output), *((n, v.dtype.str, v.ndim) for n, v in values.items()))
        if key not in self._engines:
            self._engines[key] = self._engine(node, values, opset)
        engine, floats = self._engines[key]
        names = [n for n in node.output if n]
        feed = {n: v.astype(floats) if v.dtype.kind == "f" else v for n, v in values.items()}
        try:
            made = dict(zip(names, engine.run(names, feed), strict=True))
        except ModelError:  # it was stopped
            raise
        except Exception as error:  # ONNX Runtime has a class per status code and no public base
            raise NotImplementedError(_failure(node, error)) from error
        return tuple(np.asarray(made.get(n, ())) for n in node.output)

    def _engine(
        self, node: onnx.NodeProto, values: Mapping[str, Array], opset: int
    ) -> tuple[Any, np.dtype[Any]]:
        refusals = []
        for floats in _FLOATS:
            model = self._one(node, values, opset, floats)
            try:
                where = f"node '{node.name}' ({node.op_type})"
                engine = make_engine(where, model.SerializeToString(), self._threads, plain=True)
            except ModelError as error:
                refusals.append(error)
                continue
            if floats != np.float64:
                self.narrow.add(node.op_type)
            return engine, floats
        raise NotImplementedError(str(refusals[0])) from refusals[0]  # it names the node

    def _one(
        self, node: onnx.NodeProto, values: Mapping[str, Array], opset: int, floats: np.dtype[Any]
    ) -> onnx.ModelProto:
        infos = []
        for n, v in values.items():
            dtype = floats if v.dtype.kind == "f" else v.dtype
            open_shape = [None] * v.ndim
            infos.append(helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(dtype), open_shape))
        results = [onnx.ValueInfoProto(name=n) for n in node.output if n]
        imports = [helper.make_opsetid("", opset), *self._domains]
        graph = helper.make_graph([node], "one", infos, results)
        return helper.make_model(graph, opset_imports=imports, ir_version=_IR)


def _failure(node: onnx.NodeProto, error: Exception) -> str:
    return f"node '{node.name}' ({node.op_type}): {' '.join(str(error).split())}"
