"""The range of a tensor of the float model, and what it came from."""

from __future__ import annotations

from dataclasses import dataclass

from openbpu.arch.dtypes import DType


@dataclass(frozen=True, slots=True)
class TensorRange:
    """A tensor of the float model: the range of its codes, the largest magnitude seen, its integer type.

    `method`: the one its range came from. `zero_point`: not 0 where the codes are for one side of 0 only, or
    more of it.
    """

    range: float
    largest: float
    dtype: DType
    method: str
    zero_point: int = 0

    @property
    def step(self) -> float:
        """The scale of its codes."""
        if not self.zero_point:
            return self.range / ((self.dtype.qmax - self.dtype.qmin) / 2)
        return self.range / max(self.dtype.qmax - self.zero_point, self.zero_point - self.dtype.qmin)
