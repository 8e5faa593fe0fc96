"""Aliasing: which tensors can be subviews of others, so that concats and slices copy nothing.

Tensors in one memory are an alias group; its root is the tensor that owns the memory.

concat(a, b) → y:   a and b are columns of y from the start; their producers write there
slice(x) → y:       y is columns of x; its readers read there
both:               the slices of x that a concat takes up again make x itself columns of the concat
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

from openbpu.arch.program import Concat, Move, Operator, Space, Tensor
from openbpu.compiler.schedule.problem.subviews import Subview, concat_subview, slice_subview

_NEAR = 24
"""Operators between a tensor and its concat up to which it may hold the whole concat's memory early."""


class Owners(Sequence[int]):
    """The owner of a tensor's bytes, by id: itself, or where its chain of VIEWs ends.

    Found when it is asked for: the table is the whole program's, and there may be many segments.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors)

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> list[int]: ...
    def __getitem__(self, at: int | slice) -> int | list[int]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        while self.tensors[at].space is Space.VIEW:
            at = self.tensors[at].address
        return at


@dataclass(slots=True)
class AliasAnalysis:
    """Finds the subviews of a segment.

    owners: of the bytes of every tensor, by id · pinned: owners that must keep the memory they have ·
    unaliased: owners that must have memory of their own · chip_bytes: of the on-chip memory.
    """

    operators: Sequence[Operator]
    tensors: Sequence[Tensor]
    owners: Sequence[int]
    pinned: frozenset[int]
    unaliased: frozenset[int]
    chip_bytes: int
    subviews: dict[int, Subview] = field(default_factory=dict)
    _producer: dict[int, int] = field(default_factory=dict)  # owner → operator that writes it

    def find(self) -> dict[int, Subview]:
        """The subviews of all tensors that lie inside another one, by owner."""
        for index, op in enumerate(self.operators):
            for output in op.outputs:
                self._producer.setdefault(self.owners[output], index)
            if isinstance(op, Move):
                self._alias_slice(op)
        for index, op in enumerate(self.operators):
            if isinstance(op, Concat):
                for part in range(len(op.inputs)):
                    self._alias_concat_input(index, op, part)
        return self.subviews

    def _nbytes(self, owner: int) -> int:
        return self.tensors[owner].nbytes

    def _element(self, tensor: int) -> int:
        return self.tensors[tensor].dtype.nbytes

    def _subview(self, owner: int) -> Subview:
        size = self._nbytes(owner)
        return self.subviews.get(owner) or Subview(owner, 0, size, size)

    def _may_alias(self, owner: int) -> bool:
        """Whether an owner may become a subview: written here, needed nowhere else, not yet a subview."""
        tensor = self.tensors[owner]
        return (
            owner in self._producer
            and owner not in self.pinned
            and owner not in self.unaliased
            and owner not in self.subviews
            and tensor.space is Space.DDR
            and tensor.address < 0
        )

    def _alias_slice(self, op: Move) -> None:
        source, output = self.owners[op.inputs[0]], self.owners[op.outputs[0]]
        if not self._may_alias(output) or self.tensors[source].space is Space.CONST:
            return
        local = slice_subview(op, self._element(op.outputs[0]), source)
        subview = local.within(self._subview(source), self._nbytes(source)) if local else None
        if subview:
            self.subviews[output] = subview

    def _alias_concat_input(self, index: int, op: Concat, part: int) -> None:
        whole, owner = self.owners[op.outputs[0]], self.owners[op.inputs[part]]
        target = self._target(op, part)
        if target is None or whole == owner or op.mults[part] or not self._pays(index, owner, whole):
            return
        if self._may_alias(owner):
            self._alias(owner, target)
        elif owner in self.subviews and self._may_alias(self.subviews[owner].root):
            self._alias_source(op, part, target)

    def _pays(self, index: int, owner: int, whole: int) -> bool:
        """Whether memory for all of the concat costs little from here: it is used soon, small or in DDR."""
        near = index - self._producer.get(owner, -1) <= _NEAR
        size = self._nbytes(whole)
        return near or not self.chip_bytes // 8 < size <= self.chip_bytes // 2

    def _target(self, op: Concat, part: int) -> Subview | None:
        whole = self.owners[op.outputs[0]]
        local = concat_subview(op, part, self._element(op.outputs[0]), whole)
        return local.within(self._subview(whole), self._nbytes(whole))

    def _alias(self, owner: int, subview: Subview) -> bool:
        """Make an owner a subview, and its own subviews too; nothing changes when one of them would break."""
        if subview.root == owner:
            return False
        moved: dict[int, Subview] = {owner: subview}
        for other, inner in self.subviews.items():
            if inner.root == owner:
                found = inner.within(subview, self._nbytes(owner))
                if found is None:
                    return False
                moved[other] = found
        self.subviews.update(moved)
        return True

    def _alias_source(self, op: Concat, part: int, target: Subview) -> None:
        """Make the tensor that a part is a slice of a subview of the concat, if its slices fill their columns
        of it.
        """
        inner = self.subviews[self.owners[op.inputs[part]]]
        source = inner.root
        whole = Subview(target.root, target.offset - inner.offset, inner.pitch, target.pitch)
        counts = self._nbytes(self.owners[op.inputs[part]]) // inner.row, self._nbytes(source) // inner.pitch
        if inner.row >= inner.pitch or inner.offset >= inner.pitch or counts[0] != counts[1]:
            return
        covered = 0
        for other, tensor in enumerate(op.inputs):
            subview, output = self.subviews.get(self.owners[tensor]), self._target(op, other)
            if subview is None or subview.root != source or output is None or op.mults[other]:
                continue
            if subview.within(whole, self._nbytes(source)) == output:
                covered += subview.row
        if covered == inner.pitch:
            self._alias(source, whole)


def find_subviews(
    operators: Sequence[Operator],
    tensors: Sequence[Tensor],
    owners: Sequence[int],
    pinned: frozenset[int],
    unaliased: frozenset[int],
    chip_bytes: int,
) -> Mapping[int, Subview]:
    """The subviews that `AliasAnalysis` finds, by owner."""
    return AliasAnalysis(operators, tensors, owners, pinned, unaliased, chip_bytes).find()
