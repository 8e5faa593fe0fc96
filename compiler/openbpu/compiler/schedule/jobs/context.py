"""What turning operators into jobs needs to know: tensors, where their bytes are, and constant values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch.definition.rooms import Room
from openbpu.arch.program import OPERATORS, Operator, Tensor
from openbpu.arch.shapes import Ints
from openbpu.compiler.schedule.problem.index_maps import IndexMap
from openbpu.compiler.schedule.problem.job import Job, Operand
from openbpu.compiler.schedule.problem.subviews import Subview


class NotAliasableError(Exception):
    """A job cannot access tensor `owner` as a subview: its instructions have no strides for those rows."""

    def __init__(self, owner: int) -> None:
        super().__init__(owner)
        self.owner = owner


@dataclass(frozen=True, slots=True)
class Context:
    """The program's tensors, the owner of each one's bytes, and the image of the constants (None: unknown).

    `subviews`: of owners whose bytes lie inside other tensors; the others have memory of their own.
    """

    tensors: Sequence[Tensor]
    owners: Sequence[int]
    subviews: Mapping[int, Subview]
    constants: npt.NDArray[np.uint8] | None

    def subview(self, tensor: int) -> Subview:
        """The subview that a tensor's bytes are: of another tensor, or all of its own memory."""
        owner = self.owners[tensor]
        size = self.tensors[owner].nbytes
        return self.subviews.get(owner) or Subview(owner, 0, size, size)

    def is_aliased(self, tensor: int, local: Subview | None) -> bool:
        """Whether a tensor's bytes already are the subview `local` of another, so nothing is to copy."""
        if local is None or self.owners[tensor] not in self.subviews:
            return False
        outer = self.tensors[local.root].nbytes
        return self.subview(tensor) == local.within(self.subview(local.root), outer)

    def _operand(
        self, tensor: int, shape: Ints, axes: tuple[IndexMap, ...], role: str, *, runs: bool = False
    ) -> Operand:
        subview, element = self.subview(tensor), self.tensors[tensor].dtype.nbytes
        strides = subview.strides(shape, element)
        if strides is None or (runs and shape[-1] > 1 and strides[-1] != element):
            raise NotAliasableError(self.owners[tensor])
        return Operand(
            tensor,
            subview.root,
            subview.offset,
            shape,
            strides,
            element,
            axes,
            output=role == "output",
            constant=role == "constant",
        )

    def operand(self, tensor: int, shape: Ints, axes: tuple[IndexMap, ...], *, runs: bool = False) -> Operand:
        """An input: tensor `tensor` seen as `shape`.

        runs: the instruction has no stride for the last axis, so its elements must be neighbours.
        """
        return self._operand(tensor, shape, axes, "input", runs=runs)

    def constant(self, tensor: int, shape: Ints, axes: tuple[IndexMap, ...]) -> Operand:
        """A constant that belongs to the operator: weights, tables, indices."""
        return self._operand(tensor, shape, axes, "constant")

    def output(self, tensor: int, shape: Ints, axes: tuple[IndexMap, ...], *, runs: bool = False) -> Operand:
        """The output: tensor `tensor` seen as `shape`; `runs` as for an input."""
        return self._operand(tensor, shape, axes, "output", runs=runs)

    def elements(self, tensor: int) -> int:
        """Number of elements of a tensor."""
        return prod(self.tensors[tensor].shape)

    def rows(self, tensor: int) -> int:
        """Elements of a row of a tensor's bytes: all of them unless they are inside another tensor."""
        return self.subview(tensor).row // self.tensors[tensor].dtype.nbytes

    def flat(self, tensors: Iterable[int]) -> Ints:
        """One shape of few axes for tensors of the same size, such that no axis crosses the end of a row."""
        listed = list(tensors)
        total = self.elements(listed[0])
        chain = [total]
        for row in sorted({self.rows(t) for t in listed}, reverse=True):
            if 0 < row < chain[-1] and chain[-1] % row == 0:
                chain.append(row)
        return (*(a // b for a, b in pairwise(chain)), chain[-1])

    def values(self, tensor: int) -> npt.NDArray[np.generic] | None:
        """The values of a constant tensor, or None when they are not known."""
        if self.constants is None:
            return None
        t = self.tensors[tensor]
        return self.constants[t.address : t.address + t.nbytes].view(t.dtype.numpy).reshape(t.shape)


JOBS: Room[type[Operator], Callable[[int, Any, Context], list[Job]]] = Room(
    "the jobs of the schedule",
    OPERATORS,
    "openbpu.compiler.schedule.jobs",
    decorator="a function under @JOBS.of({})",
)
"""How every kind of operator becomes jobs: (index in the segment, operator, context) → jobs in order."""
