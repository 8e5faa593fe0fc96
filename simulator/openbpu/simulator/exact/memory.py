"""Byte-addressed memory that knows which bytes were written, and boxes of elements in it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Array
from openbpu.arch.errors import SimulationError

Ints = tuple[int, ...]

_BROADCAST = 64
"""A box may hold this many times the bytes of its memory: more is a forged file, not a broadcast."""


class FaultError(SimulationError):
    """What went wrong; the machine adds which instruction of which operator did it."""


class Memory:
    """`size` bytes of a memory called `name`, none of them written; bytes below `constants` are read-only."""

    def __init__(self, name: str, size: int, constants: int = 0) -> None:
        self.name = name
        self.size = size
        self.constants = constants
        self.data = np.zeros(size, dtype=np.uint8)
        self.written = np.zeros(size, dtype=np.bool_)

    def fill(self, address: int, values: Array) -> None:
        """Put an array's bytes there before the program starts."""
        raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self.data[address : address + raw.size] = raw
        self.written[address : address + raw.size] = True

    def box(self, address: int, counts: Ints, strides: Ints, dtype: npt.DTypeLike) -> Box:
        """Return the box of elements address + Σ i·strides; raises FaultError unless all of it is inside."""
        box = Box(self, address, counts, strides, np.dtype(dtype))
        low, high = box.extent()
        if low < 0 or high > self.size:
            raise FaultError(f"bytes {low}..{high - 1} are outside {self.name} memory (0..{self.size - 1})")
        if prod(counts) * box.dtype.itemsize > _BROADCAST * self.size:
            raise FaultError(f"a box of {prod(counts)} elements is larger than {self.name} memory")
        return box

    def dense(self, address: int, shape: Ints, dtype: npt.DTypeLike) -> Box:
        """Return a row-major box."""
        size = np.dtype(dtype).itemsize
        return self.box(address, shape, tuple(size * prod(shape[i + 1 :]) for i in range(len(shape))), dtype)

    def gather(self, addresses: npt.NDArray[np.int64], count: int, dtype: npt.DTypeLike) -> Array:
        """Return `count` dense elements from each address, shape [*addresses.shape, count]."""
        size = np.dtype(dtype).itemsize
        if addresses.size and (addresses.min() < 0 or addresses.max() + count * size > self.size):
            raise FaultError(f"an indexed address is outside {self.name} memory (0..{self.size - 1})")
        at = addresses[..., None] + np.arange(count * size)
        missing = at[~self.written[at]]
        if missing.size:
            raise FaultError(f"reads byte {missing[0]} of {self.name} memory, which nobody wrote")
        values: Array = self.data[at].view(dtype)
        return values


@dataclass(frozen=True, slots=True)
class Box:
    """Elements of `dtype` at address + Σ i·strides (bytes), for i over `counts`."""

    memory: Memory
    address: int
    counts: Ints
    strides: Ints
    dtype: np.dtype[Any]

    def extent(self) -> tuple[int, int]:
        """First and last + 1 byte; (address, address) when the box is empty."""
        if 0 in self.counts:
            return self.address, self.address
        reach = [(n - 1) * s for n, s in zip(self.counts, self.strides, strict=True)]
        low = sum(r for r in reach if r < 0)
        high = sum(r for r in reach if r > 0)
        return self.address + low, self.address + high + self.dtype.itemsize

    def read(self) -> Array:
        """Return a copy of the elements; raises FaultError naming the first byte that nobody wrote."""
        if 0 in self.counts:
            return np.zeros(self.counts, self.dtype)
        flags = self._bytes_of(self.memory.written)
        if not flags.all():
            raise FaultError(
                f"reads byte {self._first_unset(flags)} of {self.memory.name} memory, which nobody wrote"
            )
        return self._elements().copy()

    def write(self, values: Array) -> None:
        """Store values (converted to the dtype) and mark their bytes as written."""
        if 0 in self.counts:
            return
        if self.extent()[0] < self.memory.constants:
            raise FaultError(
                f"writes byte {self.extent()[0]} of {self.memory.name} memory, which holds constants"
            )
        self._elements()[...] = values
        self._bytes_of(self.memory.written)[...] = True

    def _elements(self) -> Array:
        return np.ndarray(self.counts, self.dtype, self.memory.data.data, self.address, self.strides)

    def _bytes_of(self, flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """The flags of the box's bytes: repeated axes once, dense elements of the last axis in one row."""
        size = self.dtype.itemsize
        counts = [1 if s == 0 else n for n, s in zip(self.counts, self.strides, strict=True)]
        strides = list(self.strides)
        if counts and strides[-1] == size:
            counts[-1] *= size
            strides[-1] = 1
        else:
            counts, strides = [*counts, size], [*strides, 1]
        return np.ndarray(tuple(counts), np.bool_, flags.data, self.address, tuple(strides))

    def _first_unset(self, flags: npt.NDArray[np.bool_]) -> int:
        where = np.unravel_index(int(np.argmin(flags)), flags.shape)
        return self.address + sum(int(i) * s for i, s in zip(where, flags.strides, strict=True))
