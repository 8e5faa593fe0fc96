"""What lowering makes: steps whose arguments are still symbolic, and the buffers they touch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from openbpu.arch.dtypes import DType
from openbpu.arch.program import BpuSegment, Program, Space, Tensor
from openbpu.simulator.fast.declaration import Arguments, family_of, name_of, pack
from openbpu.simulator.fast.jit.cpu import kernel_mode

Array = npt.NDArray[np.generic]

SLACK = 256
"""Bytes behind every buffer that a kernel may read, never write: vectors overhang the last element."""


@dataclass(frozen=True, slots=True)
class Place:
    """A byte in a buffer of the workspace; in a segment ready to run, `offset` counts from its start."""

    buffer: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Symbol:
    """The address of a kernel."""

    name: str


@dataclass(frozen=True, slots=True)
class Late:
    """An array that depends on the memory plan: `make(offset_of)` is called once buffers have offsets."""

    make: Callable[[Callable[[Place], int]], Array]


class Saturations:
    """The address of the workspace's counter of saturated accumulators."""


Symbols = tuple[Symbol | None, ...]
"""A table of kernel addresses; None is 0."""

Argument = int | Symbols | Place | Symbol | Late | Saturations | Array


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a kernel over `units`; `work` estimates its nanoseconds on one thread."""

    family: str
    kernel: str
    units: int
    arguments: tuple[Argument, ...]
    work: float


@dataclass(slots=True)
class Buffer:
    """Bytes of the workspace.

    `first`..`last` are the operators during which it lives; `image` its constant contents.
    """

    nbytes: int
    first: int
    last: int
    image: Array | None = None


@dataclass
class Lowering:
    """Collects the steps and buffers of one segment; `now` is the index of the operator being lowered."""

    program: Program
    segment: BpuSegment
    mode: str = field(default_factory=kernel_mode)
    now: int = -1
    steps: list[Step] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    homes: dict[int, int] = field(default_factory=dict)
    _pads: dict[tuple[int, str], int] = field(default_factory=dict)

    def tensor(self, tensor_id: int) -> Tensor:
        """Return a tensor of the program."""
        return self.program.tensors[tensor_id]

    def dtype(self, tensor_id: int) -> DType:
        """Return the dtype of a tensor."""
        return self.program.tensors[tensor_id].dtype

    def kind(self, tensor_id: int) -> int:
        """Return the bytes of an element."""
        return self.dtype(tensor_id).nbytes

    def constant(self, tensor_id: int) -> Array:
        """Return the values of a constant tensor."""
        return self.program.constant(tensor_id)

    def table(self, table_id: int) -> Array | int:
        """Return the values of a table, 0 where there is none."""
        return np.ascontiguousarray(self.constant(table_id)) if table_id >= 0 else 0

    def read(self, tensor_id: int) -> Place:
        """Return where an input of the current operator lies."""
        root = self.program.root(tensor_id)
        if root not in self.homes:
            self._adopt(root)
        buffer = self.homes[root]
        self.buffers[buffer].last = max(self.buffers[buffer].last, self.now)
        return Place(buffer)

    def _adopt(self, root: int) -> None:
        """A tensor read before it is written: a constant, or an input of the segment."""
        tensor = self.tensor(root)
        if tensor.space is Space.CONST:
            self.homes[root] = self.keep(self.constant(root))
        else:
            self.homes[root] = self._new(tensor.nbytes, -1)

    def write(self, tensor_id: int) -> Place:
        """Return where the output of the current operator goes."""
        root = self.program.root(tensor_id)
        if root not in self.homes:
            self.homes[root] = self._new(self.tensor(root).nbytes, self.now)
        buffer = self.homes[root]
        self.buffers[buffer].last = max(self.buffers[buffer].last, self.now)
        return Place(buffer)

    def temporary(self, nbytes: int) -> Place:
        """Return bytes that live during the current operator."""
        return Place(self._new(nbytes, self.now))

    def _new(self, nbytes: int, first: int) -> int:
        self.buffers.append(Buffer(nbytes, first, max(first, self.now)))
        return len(self.buffers) - 1

    def keep(self, image: Array) -> int:
        """Return a buffer that always holds `image`."""
        data = np.frombuffer(np.ascontiguousarray(image).tobytes(), dtype=np.uint8)
        self.buffers.append(Buffer(data.nbytes, -1, 1 << 30, data))
        return len(self.buffers) - 1

    def padding(self, value: int, dtype: DType, count: int) -> Place:
        """Return `count` elements of `value`, shared by all operators that ask for them."""
        key = (value, dtype.value)
        image = np.full(count + SLACK, value, dtype=dtype.numpy)
        if key not in self._pads:
            self._pads[key] = self.keep(image)
        elif self.buffers[self._pads[key]].nbytes < image.nbytes:
            self.buffers[self._pads[key]] = self.buffers[self.keep(image)]
            self.buffers.pop()
        return Place(self._pads[key])

    def add(self, arguments: Arguments, units: int, work: float) -> None:
        """Append a step of the kernel that takes these; one without units does nothing and is left out."""
        if units > 0:
            kind = type(arguments)
            self.steps.append(Step(family_of(kind), name_of(kind), units, pack(arguments), work))
