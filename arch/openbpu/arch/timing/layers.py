"""The operators of a segment as columns beside its instructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openbpu.arch.errors import HbmError
from openbpu.arch.march import March
from openbpu.arch.program import Operator, Tensor
from openbpu.arch.timing.integers import Int64


@dataclass(frozen=True, slots=True)
class Layers:
    """Operators, tensors and march of the instructions under evaluation."""

    operators: Sequence[Operator]
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

    def bits(self, operator: Operator) -> int:
        """Return the bits of an operator's widest operand."""
        return 8 * max(self.size(t) for t in (*operator.inputs, *operator.outputs))

    def input_size(self, operator: Operator) -> int:
        """Return the bytes of an element of an operator's first input."""
        return self.size(operator.inputs[0])

    def output_size(self, operator: Operator) -> int:
        """Return the bytes of an element of an operator's output."""
        return self.size(operator.outputs[0])
