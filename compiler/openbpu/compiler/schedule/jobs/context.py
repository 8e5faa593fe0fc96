"""What turning operators into jobs needs to know: the tensor table and, where they are known, constant
values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from openbpu.arch.program import Tensor
from openbpu.compiler.schedule.axes import Axis, Ints
from openbpu.compiler.schedule.job import Operand


@dataclass(frozen=True, slots=True)
class Context:
    """The program's tensors and the image of its constants (None: values unknown, whole axes are loaded)."""

    tensors: Sequence[Tensor]
    constants: npt.NDArray[np.uint8] | None

    def operand(self, tensor: int, shape: Ints, axes: tuple[Axis, ...]) -> Operand:
        """An input: tensor `tensor` seen as `shape`."""
        return Operand(tensor, shape, self.tensors[tensor].dtype.nbytes, axes)

    def constant(self, tensor: int, shape: Ints, axes: tuple[Axis, ...]) -> Operand:
        """A constant that belongs to the operator: weights, tables, indices."""
        return Operand(tensor, shape, self.tensors[tensor].dtype.nbytes, axes, constant=True)

    def output(self, tensor: int, shape: Ints, axes: tuple[Axis, ...]) -> Operand:
        """The output: tensor `tensor` seen as `shape`."""
        return Operand(tensor, shape, self.tensors[tensor].dtype.nbytes, axes, output=True)

    def elements(self, tensor: int) -> int:
        """Number of elements of a tensor."""
        return prod(self.tensors[tensor].shape)

    def values(self, tensor: int) -> npt.NDArray[np.generic] | None:
        """The values of a constant tensor, or None when they are not known."""
        if self.constants is None:
            return None
        t = self.tensors[tensor]
        return self.constants[t.address : t.address + t.nbytes].view(t.dtype.numpy).reshape(t.shape)
