"""`hobot_dnn.pyeasy_dnn`: the older Python interface of the boards, here on the simulator."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.arch.hbm import read_package
from openbpu.compat.scheduling import check_scheduling
from openbpu.runtime import Session, TensorInfo

__all__ = ["Model", "TensorProperties", "load", "pyDNNTensor"]

_MICROSECONDS = 1000
"""Per millisecond."""


@dataclass(frozen=True)
class TensorProperties:
    """What a tensor is. tensor_type: NV12, or one of numbers by their type, "float32", "int8", …

    layout: NCHW, NHWC or NONE · scale_data: float32 [1 or C], empty where it is not quantized · quanti_type:
    SCALE or NONE · scale_zero_point: as long as scale_data.
    """

    tensor_type: str
    dtype: str
    layout: str
    shape: tuple[int, ...]
    scale_data: Array
    scale_zero_point: Array
    quanti_type: str
    quantize_axis: int
    aligned_byte_size: int
    stride: tuple[int, ...]


@dataclass
class pyDNNTensor:  # noqa: N801  # the board's name
    """An input or an output. buffer: its values; of an input zeros, until `forward` was called."""

    name: str
    properties: TensorProperties
    buffer: Array = field(repr=False)


class Model:
    """A compiled file: `inputs`, `outputs`, and `forward`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._feeds = list(_logical(session.inputs))
        self.inputs = [feed.tensor for feed in self._feeds]
        self.outputs = [_tensor(t) for t in session.outputs]

    @property
    def name(self) -> str:
        """The model's name."""
        return self._session.program.name

    @property
    def estimate_latency(self) -> float:
        """From call to return in one thread, in ms: cycles of the BPU simulated, the rest estimated."""
        return self._session.latency.one_thread_us / _MICROSECONDS

    def joined(self, tensors: Mapping[str, Array]) -> list[Array]:
        """Return the tensors of the program as inputs: the planes of a picture one after the other."""
        return [
            tensors[feed.parts[0].name]
            if len(feed.parts) == 1
            else np.concatenate([np.ravel(tensors[t.name]) for t in feed.parts])
            for feed in self._feeds
        ]

    def forward(self, arrays: Any, core_id: int = 0, priority: int = 0) -> list[pyDNNTensor]:
        """Run on an array per input, one alone or in a list; returns the outputs.

        An NV12 picture is one flat uint8 array of H·W·3/2; any other array may have another shape of as many
        elements. core_id: 0 for any core, else 1, 2, …. Raises InputError for what does not fit.
        """
        cores = self._session.march.chip.cores
        check_scheduling(priority, [core_id - 1] if core_id else [], cores)
        given = list(arrays) if isinstance(arrays, list | tuple) else [arrays]
        if len(given) != len(self._feeds):
            raise InputError(must("forward", "the number of inputs", len(self._feeds), len(given)))
        feed: dict[str, Array] = {}
        for one, value in zip(self._feeds, given, strict=True):
            one.tensor.buffer = np.asarray(value)
            feed.update(one.fed(one.tensor.buffer))
        made = self._session.run(feed).outputs
        self.outputs = [_tensor(t, made[t.name]) for t in self._session.outputs]
        return self.outputs


def load(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Model]:
    """Return the models in one compiled file, or in several; raises HbmError for a file that is none."""
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    return [Model(Session(program)) for path in files for program in read_package(path)]


@dataclass(frozen=True)
class _Feed:
    """An input as scripts see it, and the tensors of the program that it is cut into."""

    tensor: pyDNNTensor
    parts: tuple[TensorInfo, ...]

    def fed(self, value: Array) -> dict[str, Array]:
        """Return the program's inputs; raises InputError where type or number of elements differ."""
        sizes = [math.prod(t.shape) for t in self.parts]
        dtype = np.dtype(self.parts[0].dtype.numpy)
        if value.dtype != dtype:
            fix = f"cast it: x.astype(np.{dtype.name})"
            raise InputError(must(f"input '{self.tensor.name}'", "dtype", dtype.name, value.dtype.name, fix))
        if value.size != sum(sizes):
            raise InputError(
                must(f"input '{self.tensor.name}'", "the number of elements", sum(sizes), value.size)
            )
        cut = np.split(np.ascontiguousarray(value).reshape(-1), np.cumsum(sizes)[:-1])
        return {t.name: part.reshape(t.shape) for t, part in zip(self.parts, cut, strict=True)}


def _logical(inputs: Sequence[TensorInfo]) -> Iterator[_Feed]:
    """Yield the inputs; the planes Y and UV of a picture are one."""
    planes = {t.name: t for t in inputs}
    for t in inputs:
        base = t.name.removesuffix("_y")
        if t.name.endswith("_uv") and _is_nv12(planes.get(t.name.removesuffix("uv") + "y"), t):
            continue
        chroma = planes.get(f"{base}_uv")
        if t.name.endswith("_y") and _is_nv12(t, chroma) and chroma is not None:
            yield _Feed(_picture(base, t, chroma), (t, chroma))
        else:
            yield _Feed(_tensor(t), (t,))


def _is_nv12(y: TensorInfo | None, uv: TensorInfo | None) -> bool:
    if y is None or uv is None or len(y.shape) != 4 or y.dtype.numpy != np.uint8:
        return False
    n, h, w, c = y.shape
    return c == 1 and uv.shape == (n, h // 2, w // 2, 2) and uv.dtype is y.dtype


def _picture(name: str, y: TensorInfo, uv: TensorInfo) -> pyDNNTensor:
    n, h, w, _ = y.shape
    none = np.zeros(0, np.float32)
    size = y.aligned_bytes + uv.aligned_bytes
    said = TensorProperties(
        "NV12", "uint8", "NCHW", (n, 3, h, w), none, none.astype(np.int32), "NONE", 0, size, y.strides
    )
    return pyDNNTensor(name, said, np.zeros(n * h * w * 3 // 2, np.uint8))


def _tensor(t: TensorInfo, value: Array | None = None) -> pyDNNTensor:
    dtype = np.dtype(t.dtype.numpy)
    said = TensorProperties(
        dtype.name,
        dtype.name,
        _layout(t.shape),
        tuple(t.shape),
        np.asarray(t.scale, np.float32),
        np.full(len(t.scale), t.zero_point, np.int32),
        t.quanti_type,
        t.axis if len(t.scale) > 1 else 0,
        t.aligned_bytes,
        t.strides,
    )
    return pyDNNTensor(t.name, said, np.zeros(t.shape, dtype) if value is None else value)


def _layout(shape: Sequence[int]) -> str:
    """Channels last where the last axis is a picture's channels and the second is not."""
    if len(shape) != 4:
        return "NONE"
    colours = {1, 2, 3, 4}
    return "NHWC" if shape[3] in colours and shape[1] not in colours else "NCHW"
