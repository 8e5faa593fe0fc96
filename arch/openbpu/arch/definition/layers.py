"""What cycles are written with: operands of encoded instructions as columns, their operators beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Int64
from openbpu.arch.definition.boxes import runs, volume
from openbpu.arch.errors import HbmError
from openbpu.arch.march import March
from openbpu.arch.tensors import Tensor

Records = npt.NDArray[np.void]
"""Encoded instructions of one kind, shape (n,), with a field per operand."""


def column(rows: Records, name: str) -> Int64:
    """Return an operand of every record, int64 [n] or [n, count]."""
    return rows[name].astype(np.int64)


def box(rows: Records, *operands: tuple[str, Int64]) -> tuple[Int64, Int64]:
    """Return rows and run of a box, by its operands: name of the strides and bytes of an element."""
    counts = column(rows, "counts")
    volume(counts)
    return runs(counts, [column(rows, name) for name, _ in operands], [size for _, size in operands])


@dataclass(frozen=True, slots=True)
class Layers:
    """Operators, tensors and march of the instructions under evaluation."""

    operators: Sequence[Any]
    tensors: Sequence[Tensor]
    march: March

    def of(self, ids: Int64, value: Callable[[Any], int]) -> Int64:
        """Return value(operator) for every operator id, evaluated once per distinct operator.

        Raises HbmError when an operator is not what its kind promises (too few inputs, no groups, …).
        """
        seen = np.zeros(len(self.operators), dtype=np.bool_)
        seen[ids] = True
        distinct = np.flatnonzero(seen)
        values = np.zeros(len(self.operators), dtype=np.int64)
        index = -1
        try:
            for index in distinct.tolist():
                values[index] = value(self.operators[index])
        except (IndexError, ZeroDivisionError, ValueError, TypeError, OverflowError) as error:
            kind = type(self.operators[index]).__name__
            raise HbmError(
                f"operator {index}: the {kind} is malformed ({error}); the file is damaged"
            ) from error
        return values[ids]

    def size(self, tensor: int) -> int:
        """Return the bytes of an element of a tensor."""
        return self.tensors[tensor].dtype.nbytes

    def bits(self, operator: Any) -> int:
        """Return the bits of an operator's widest operand."""
        return 8 * max(self.size(t) for t in (*operator.inputs, *operator.outputs))

    def input_size(self, operator: Any) -> int:
        """Return the bytes of an element of an operator's first input."""
        return self.size(operator.inputs[0])

    def output_size(self, operator: Any) -> int:
        """Return the bytes of an element of an operator's output."""
        return self.size(operator.outputs[0])
