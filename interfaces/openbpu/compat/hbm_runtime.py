"""`hbm_runtime`: what a board script calls to run a `.hbm`, here on the simulator, with the same numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.arch.hbm import read_package
from openbpu.compat.scheduling import check_scheduling
from openbpu.runtime import Session, TensorInfo

__all__ = ["HB_HBMRuntime", "QuantParams", "QuantType", "hbDNNDataType"]


class hbDNNDataType(str, Enum):  # noqa: N801  # the board's name
    """Types of tensors by the board's short names."""

    S8 = "int8"
    U8 = "uint8"
    S16 = "int16"
    U16 = "uint16"
    F16 = "float16"
    S32 = "int32"
    U32 = "uint32"
    F32 = "float32"
    S64 = "int64"
    U64 = "uint64"
    F64 = "float64"
    BOOL8 = "bool"


class QuantType(str, Enum):
    """Whether a tensor holds codes: value = (code − zero_point) · scale."""

    NONE = "NONE"
    SCALE = "SCALE"


@dataclass(frozen=True)
class QuantParams:
    """How a tensor is quantized: float32 scales [1 or C], int32 zero points; empty where it is not."""

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int32]
    quant_type: QuantType
    axis: int


@dataclass(frozen=True)
class SchedParams:
    """Priority, and the cores, of a model's tasks."""

    priority: int = 0
    bpu_cores: tuple[int, ...] = ()


class HB_HBMRuntime:  # noqa: N801  # the board's name
    """One or several compiled files, each a model: names, shapes, types and scales, and `run`.

    Every property maps a model's name to what it says of that model. Raises HbmError for a file that cannot
    be read, InputError where two models have one name.
    """

    def __init__(self, model_files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        paths = [model_files] if isinstance(model_files, str | os.PathLike) else list(model_files)
        if not paths:
            raise InputError(must("HB_HBMRuntime", "model_files", "a path or a list of paths", "empty"))
        self._sessions: dict[str, Session] = {}
        for session in (Session(program) for path in paths for program in read_package(path)):
            name = session.program.name
            if name in self._sessions:
                fix = "give the models other names when they are compiled"
                raise InputError(
                    must("HB_HBMRuntime", "the names of models", "different", f"'{name}' twice", fix)
                )
            self._sessions[name] = session
        self._scheduling = dict.fromkeys(self._sessions, SchedParams())

    def _each(self, what: Any) -> dict[str, Any]:
        return {name: what(session) for name, session in self._sessions.items()}

    @property
    def model_names(self) -> list[str]:
        """The models, in the order they were given."""
        return list(self._sessions)

    @property
    def model_count(self) -> int:
        """How many models there are."""
        return len(self._sessions)

    @property
    def input_counts(self) -> dict[str, int]:
        """How many inputs each model has."""
        return self._each(lambda s: len(s.inputs))

    @property
    def output_counts(self) -> dict[str, int]:
        """How many outputs each model has."""
        return self._each(lambda s: len(s.outputs))

    @property
    def input_names(self) -> dict[str, list[str]]:
        """The inputs in the order of the model."""
        return self._each(lambda s: [t.name for t in s.inputs])

    @property
    def output_names(self) -> dict[str, list[str]]:
        """The outputs in the order of the model."""
        return self._each(lambda s: [t.name for t in s.outputs])

    @property
    def input_shapes(self) -> dict[str, dict[str, list[int]]]:
        """The sizes of every input."""
        return self._each(lambda s: {t.name: list(t.shape) for t in s.inputs})

    @property
    def output_shapes(self) -> dict[str, dict[str, list[int]]]:
        """The sizes of every output."""
        return self._each(lambda s: {t.name: list(t.shape) for t in s.outputs})

    @property
    def input_dtypes(self) -> dict[str, dict[str, hbDNNDataType]]:
        """The types of the inputs: members of `hbDNNDataType`, whose values are NumPy's names."""
        return self._each(lambda s: {t.name: _dtype(t) for t in s.inputs})

    @property
    def output_dtypes(self) -> dict[str, dict[str, hbDNNDataType]]:
        """The types of the outputs."""
        return self._each(lambda s: {t.name: _dtype(t) for t in s.outputs})

    @property
    def input_strides(self) -> dict[str, dict[str, list[int]]]:
        """Bytes from one element to the next along every axis of the inputs."""
        return self._each(lambda s: {t.name: list(t.strides) for t in s.inputs})

    @property
    def output_strides(self) -> dict[str, dict[str, list[int]]]:
        """Bytes from one element to the next along every axis of the outputs."""
        return self._each(lambda s: {t.name: list(t.strides) for t in s.outputs})

    @property
    def input_quants(self) -> dict[str, dict[str, QuantParams]]:
        """How the inputs are quantized."""
        return self._each(lambda s: {t.name: quant_params(t) for t in s.inputs})

    @property
    def output_quants(self) -> dict[str, dict[str, QuantParams]]:
        """How the outputs are quantized."""
        return self._each(lambda s: {t.name: quant_params(t) for t in s.outputs})

    @property
    def model_descs(self) -> dict[str, str]:
        """What each model was compiled for."""
        return self._each(lambda s: f"{s.program.name}, {s.program.march}")

    @property
    def sched_params(self) -> dict[str, SchedParams]:
        """What `set_scheduling_params` set."""
        return dict(self._scheduling)

    def set_scheduling_params(
        self, priority: Mapping[str, int] | None = None, bpu_cores: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        """Set priorities (0..255) and cores by model; no value depends on them, `hrt_model_exec perf` does.

        Raises InputError for another model, priority or core.
        """
        for name in {**(priority or {}), **(bpu_cores or {})}:
            session = self._session(name)
            before = self._scheduling[name]
            level = (priority or {}).get(name, before.priority)
            cores = tuple((bpu_cores or {}).get(name, before.bpu_cores))
            check_scheduling(level, cores, session.march.chip.cores)
            self._scheduling[name] = SchedParams(level, cores)

    def run(self, inputs: Any, **options: Any) -> dict[str, dict[str, Array]]:
        """Run and return {model: {output: array}}.

        inputs: {model: {input: array}}; of a single model {input: array} as well, and of one with a single
        input the array. Nothing is cast or reshaped. options: priority, bpu_cores, custom_id, timeout, as the
        board takes them. Raises InputError for what does not fit.
        """
        self._check_options(options)
        feeds = self._by_model(inputs)
        sessions = {name: self._session(name) for name in feeds}
        for name, feed in feeds.items():
            sessions[name].check(feed)
        return {name: dict(sessions[name].run(feed).outputs) for name, feed in feeds.items()}

    def _check_options(self, options: Mapping[str, Any]) -> None:
        known = ("priority", "bpu_cores", "custom_id", "timeout")
        for name in options:
            if name not in known:
                raise InputError(must("run", "an option", f"one of {', '.join(known)}", f"'{name}'"))

    def _by_model(self, inputs: Any) -> dict[str, dict[str, Array]]:
        if not isinstance(inputs, Mapping):
            return {self._only(): {self._only_input(): np.asarray(inputs)}}
        if inputs and all(isinstance(value, Mapping) for value in inputs.values()):
            return {name: dict(feed) for name, feed in inputs.items()}
        return {self._only(): dict(inputs)}

    def _only(self) -> str:
        if len(self._sessions) > 1:
            allowed = f"{{model: {{input: array}}}} of {', '.join(self._sessions)}"
            raise InputError(must("run", "the inputs of several models", allowed, "arrays alone"))
        return next(iter(self._sessions))

    def _only_input(self) -> str:
        names = [t.name for t in self._sessions[self._only()].inputs]
        if len(names) != 1:
            raise InputError(
                must("run", "the inputs", f"{{input: array}} of {', '.join(names)}", "one array")
            )
        return names[0]

    def _session(self, name: str) -> Session:
        if name not in self._sessions:
            raise InputError(
                must("HB_HBMRuntime", "the model", f"one of {', '.join(self._sessions)}", f"'{name}'")
            )
        return self._sessions[name]


def _dtype(t: TensorInfo) -> hbDNNDataType:
    return hbDNNDataType(np.dtype(t.dtype.numpy).name)


def quant_params(t: TensorInfo) -> QuantParams:
    """Return how a tensor is quantized."""
    kind = QuantType.SCALE if t.scale else QuantType.NONE
    zeros = np.full(len(t.scale), t.zero_point, np.int32)
    return QuantParams(np.asarray(t.scale, np.float32), zeros, kind, t.axis if len(t.scale) > 1 else 0)
