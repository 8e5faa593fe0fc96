"""A program under check: what a constant holds is looked up once, however many operators name it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from openbpu.arch.tensors import Tensor


class _Program(Protocol):
    """What is asked of a program."""

    @property
    def tensors(self) -> Sequence[Tensor]: ...

    def constant(self, tensor_id: int) -> Any: ...


class Checked:
    """What the checks of operators see of a program; tensor ids are in range."""

    def __init__(self, program: _Program) -> None:
        self._program = program
        self.tensors = program.tensors
        self._extremes: dict[tuple[int, int, int], tuple[int, int] | None] = {}

    def constant(self, tensor_id: int) -> Any:
        """Return the data of a constant, a view."""
        return self._program.constant(tensor_id)

    def extremes(self, tensor_id: int, first: int, last: int) -> tuple[int, int] | None:
        """Return the least and the greatest number in columns first..last−1 of a constant.

        All of it counts where it has no columns; None if there is no number.
        """
        key = tensor_id, first, last
        if key not in self._extremes:
            values = self.constant(tensor_id)
            part = values if values.ndim < 2 else values[:, first:last]
            self._extremes[key] = (int(part.min()), int(part.max())) if part.size else None
        return self._extremes[key]
