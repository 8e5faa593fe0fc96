"""The tensor table and the image of the constants while a program is being built."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from openbpu.arch.dtypes import DType
from openbpu.arch.program import Space, Tensor
from openbpu.compiler.ir import Array, Graph, Quant

ALIGN = 64
_DTYPES = {d.value: d for d in DType} | {"bool": DType.BOOL8}


class TensorTable:
    """Gives every value of the graph an id; constants are 64-byte aligned, small equal ones shared."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors: list[Tensor] = []
        self._ids: dict[str, int] = {}
        self._chunks: list[npt.NDArray[np.uint8]] = []
        self._size = 0
        self._shared: dict[tuple[str, bytes], int] = {}

    def id_of(self, name: str) -> int:
        """Return the id of a value, making its tensor on first use."""
        if name not in self._ids:
            value = self.graph.values[name]
            if value.const is not None:
                self._ids[name] = self.add_constant(name, value.const, value.quant)
            else:
                self._ids[name] = self._declare(name)
        return self._ids[name]

    def _declare(self, name: str) -> int:
        value = self.graph.values[name]
        dtype = _DTYPES.get(value.dtype, DType.OTHER)
        scale, zero, axis = _quant_fields(value.quant)
        self.tensors.append(Tensor(name, value.shape or (), dtype, Space.DDR, -1, scale, zero, axis))
        return len(self.tensors) - 1

    def add_constant(self, name: str, data: Array, quant: Quant | None = None) -> int:
        """Store a constant and return its id."""
        array = np.ascontiguousarray(data)
        address = self._place(array)
        scale, zero, axis = _quant_fields(quant)
        dtype = DType.of(array.dtype)
        self.tensors.append(Tensor(name, np.shape(data), dtype, Space.CONST, address, scale, zero, axis))
        return len(self.tensors) - 1

    def _place(self, array: Array) -> int:
        raw = array.reshape(-1).view(np.uint8)
        key = (str(array.dtype), raw.tobytes()) if raw.size <= 4096 else None
        if key is not None and key in self._shared:
            return self._shared[key]
        address = self._size
        self._chunks.append(raw)
        self._size += -(-raw.size // ALIGN) * ALIGN
        if key is not None:
            self._shared[key] = address
        return address

    def add_temporary(self, stem: str, shape: tuple[int, ...], dtype: DType) -> str:
        """Declare a tensor that no value of the graph stands for; returns its name, made from `stem`."""
        name = stem
        while name in self._ids or name in self.graph.values:
            name += "'"
        self._ids[name] = len(self.tensors)
        self.tensors.append(Tensor(name, shape, dtype, Space.DDR, -1))
        return name

    def make_view(self, name: str, source: str) -> None:
        """Declare value `name` as a reshape of `source`."""
        root, view = self.id_of(source), self.id_of(name)
        self.tensors[view] = replace(self.tensors[view], space=Space.VIEW, address=root)

    def place(self, tensor_id: int, space: Space, address: int) -> None:
        """Give the tensor (or the root of a view) its address, in DDR or in the L2M."""
        root = self.root(tensor_id)
        self.tensors[root] = replace(self.tensors[root], space=space, address=address)

    def root(self, tensor_id: int) -> int:
        """Id of the tensor that owns the bytes."""
        while self.tensors[tensor_id].space is Space.VIEW:
            tensor_id = self.tensors[tensor_id].address
        return tensor_id

    def image(self) -> npt.NDArray[np.uint8]:
        """The bytes of the CONST space."""
        out = np.zeros(self._size, np.uint8)
        at = 0
        for chunk in self._chunks:
            out[at : at + chunk.size] = chunk
            at += -(-chunk.size // ALIGN) * ALIGN
        return out


def _quant_fields(quant: Quant | None) -> tuple[tuple[float, ...], int, int]:
    return ((), 0, -1) if quant is None else (quant.scale, quant.zero_point, quant.axis)
