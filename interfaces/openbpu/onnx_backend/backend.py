"""The backend: `onnx.backend.base.Backend` over the compiler and a session."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, ValueInfoProto, helper
from onnx.backend.base import Backend, BackendRep, namedtupledict

from openbpu.arch.errors import InputError, must
from openbpu.compiler import compile as build
from openbpu.runtime import Mode, Session

Shapes = dict[str, tuple[int, ...]]

MARCH = "nash-e"
"""The march for which `prepare` compiles when it is not told."""


class OpenbpuRep(BackendRep):
    """A compiled model; one with dynamic inputs is compiled on the first run of each set of shapes."""

    def __init__(self, model: ModelProto, *, march: str, opt: int, mode: Mode, threads: int) -> None:
        self._model = model
        self._march, self._opt, self._mode, self._threads = march, opt, mode, threads
        constants = {t.name for t in model.graph.initializer}
        constants |= {t.values.name for t in model.graph.sparse_initializer}
        self._inputs = [v for v in model.graph.input if v.name not in constants]
        self._dynamic = {v.name for v in self._inputs if not _is_static(v)}
        self._lock = threading.Lock()
        self._sessions: dict[tuple[tuple[str, tuple[int, ...]], ...], Session] = {}
        if not self._dynamic:
            self._session({})

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return the outputs in order, also by name (`outputs["y"]`).

        inputs: arrays in the order of the model's inputs, one array for a model with one, or a dict by name.
        Raises InputError when they do not fit.
        """
        del kwargs  # the interface allows any; none means anything here
        feed = self._feed(inputs)
        shapes = {name: np.shape(x) for name, x in feed.items() if name in self._dynamic}
        outputs = self._session(shapes).run(feed, finite=False).outputs
        names = [v.name for v in self._model.graph.output]
        made: tuple[Any, ...] = namedtupledict("Outputs", names)(*(outputs[name] for name in names))
        return made

    def _feed(self, inputs: Any) -> dict[str, Any]:
        if isinstance(inputs, Mapping):
            return dict(inputs)
        given = list(inputs) if isinstance(inputs, Sequence) else [inputs]
        if len(given) != len(self._inputs):
            names = ", ".join(v.name for v in self._inputs) or "none"
            raise InputError(
                must("inputs", "their number", len(self._inputs), len(given), f"they are: {names}")
            )
        return {v.name: x for v, x in zip(self._inputs, given, strict=True)}

    def _session(self, shapes: Shapes) -> Session:
        key = tuple(sorted(shapes.items()))
        with self._lock:
            if key not in self._sessions:
                program = build(self._model, march=self._march, opt=self._opt, shapes=shapes or None)
                self._sessions[key] = Session(program, mode=self._mode, threads=self._threads)
            return self._sessions[key]


def _is_static(value: ValueInfoProto) -> bool:
    """Whether no run can change the shape of an input; sequences and maps have none to speak of."""
    if not value.type.HasField("tensor_type"):
        return True
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim)


class OpenbpuBackend(Backend):
    """Compiles (`march=`, `opt=`) and simulates (`mode=`, `threads=`), as `openbpu.runtime.Session` says."""

    @classmethod
    def prepare(
        cls,
        model: ModelProto,
        device: str = "CPU",
        *,
        march: str = MARCH,
        opt: int = 2,
        mode: Mode = "fast",
        threads: int = 1,
        **kwargs: Any,
    ) -> OpenbpuRep:
        """Return the compiled model; raises what `openbpu.compiler.compile` raises."""
        del kwargs  # the interface allows any; none means anything here
        if not cls.supports_device(device):
            raise InputError(must("prepare", "the device", "CPU (where the BPU is simulated)", repr(device)))
        return OpenbpuRep(model, march=march, opt=opt, mode=mode, threads=threads)

    @classmethod
    def run_model(cls, model: ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Compile and run once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Compile and run a model made of one node; `opset_version` in `kwargs` chooses its opset."""
        opset = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        names = list(dict.fromkeys(name for name in node.input if name))
        arrays = [np.asarray(x) for x in inputs]
        given = [_value(name, x.dtype, x.shape) for name, x in zip(names, arrays, strict=True)]
        outputs = [name for name in node.output if name]
        made = [ValueInfoProto(name=name) for name in outputs]
        if outputs_info:
            made = [_value(name, *info) for name, info in zip(outputs, outputs_info, strict=True)]
        imports = [helper.make_opsetid(node.domain, opset if node.domain in ("", "ai.onnx") else 1)]
        model = helper.make_model(
            helper.make_graph([node], node.op_type or "node", given, made), opset_imports=imports
        )
        return cls.run_model(model, dict(zip(names, arrays, strict=True)), device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether the simulator runs there: on the CPU only."""
        return device.upper().partition(":")[0] == "CPU"


def _value(name: str, dtype: Any, shape: Sequence[int]) -> ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, shape)
