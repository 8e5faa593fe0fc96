"""Which tensors can lie inside others, so that concats and slices copy nothing.

concat(a, b) → y:   a and b are columns of y from the start; their producers write there
slice(x) → y:       y is columns of x; its readers read there
both:               the slices of x that a concat takes up again make x itself columns of the concat
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from openbpu.arch.program import Concat, Move, Operator, Space, Tensor
from openbpu.compiler.schedule.problem.subviews import Place, part_place, slice_place

_NEAR = 24
"""Operators between a tensor and its concat up to which it may hold the whole concat's memory early."""


@dataclass(slots=True)
class Insides:
    """Finds the places. `fixed`: owners that must stay where they are; `apart`: owners that must stay
    dense.
    """

    operators: Sequence[Operator]
    tensors: Sequence[Tensor]
    owners: Sequence[int]
    fixed: frozenset[int]
    apart: frozenset[int]
    chip_bytes: int
    places: dict[int, Place] = field(default_factory=dict)
    _made: dict[int, int] = field(default_factory=dict)  # owner → operator that writes it

    def find(self) -> dict[int, Place]:
        """The places of all tensors that lie inside another one, by owner."""
        for index, op in enumerate(self.operators):
            for output in op.outputs:
                self._made.setdefault(self.owners[output], index)
            if isinstance(op, Move):
                self._slice(op)
        for index, op in enumerate(self.operators):
            if isinstance(op, Concat):
                for part in range(len(op.inputs)):
                    self._part(index, op, part)
        return self.places

    def _nbytes(self, owner: int) -> int:
        return self.tensors[owner].nbytes

    def _element(self, tensor: int) -> int:
        return self.tensors[tensor].dtype.nbytes

    def _place(self, owner: int) -> Place:
        size = self._nbytes(owner)
        return self.places.get(owner) or Place(owner, 0, size, size)

    def _movable(self, owner: int) -> bool:
        """Whether an owner may get a place: made here, needed nowhere else, not yet inside another."""
        tensor = self.tensors[owner]
        return (
            owner in self._made
            and owner not in self.fixed
            and owner not in self.apart
            and owner not in self.places
            and tensor.space is Space.DDR
            and tensor.address < 0
        )

    def _slice(self, op: Move) -> None:
        source, target = self.owners[op.inputs[0]], self.owners[op.outputs[0]]
        if not self._movable(target) or self.tensors[source].space is Space.CONST:
            return
        local = slice_place(op, self._element(op.outputs[0]), source)
        place = local.within(self._place(source), self._nbytes(source)) if local else None
        if place:
            self.places[target] = place

    def _part(self, index: int, op: Concat, part: int) -> None:
        whole, owner = self.owners[op.outputs[0]], self.owners[op.inputs[part]]
        wanted = self._wanted(op, part)
        if wanted is None or whole == owner or op.mults[part] or not self._worth(index, owner, whole):
            return
        if self._movable(owner):
            self._put(owner, wanted)
        elif owner in self.places and self._movable(self.places[owner].root):
            self._put_source(op, part, wanted)

    def _worth(self, index: int, owner: int, whole: int) -> bool:
        """A part far ahead of its concat would keep memory for all of it, unless that is little or in DDR."""
        near = index - self._made.get(owner, -1) <= _NEAR
        size = self._nbytes(whole)
        return near or not self.chip_bytes // 8 < size <= self.chip_bytes // 2

    def _wanted(self, op: Concat, part: int) -> Place | None:
        whole = self.owners[op.outputs[0]]
        local = part_place(op, part, self._element(op.outputs[0]), whole)
        return local.within(self._place(whole), self._nbytes(whole))

    def _put(self, owner: int, place: Place) -> bool:
        """Give an owner a place, and those inside it theirs; nothing changes when one of them would break."""
        if place.root == owner:
            return False
        moved: dict[int, Place] = {owner: place}
        for other, inner in self.places.items():
            if inner.root == owner:
                found = inner.within(place, self._nbytes(owner))
                if found is None:
                    return False
                moved[other] = found
        self.places.update(moved)
        return True

    def _put_source(self, op: Concat, part: int, wanted: Place) -> None:
        """Put the tensor that a part is a slice of into the concat, if its slices fill their columns of
        it.
        """
        inner = self.places[self.owners[op.inputs[part]]]
        source = inner.root
        whole = Place(wanted.root, wanted.offset - inner.offset, inner.pitch, wanted.pitch)
        counts = self._nbytes(self.owners[op.inputs[part]]) // inner.row, self._nbytes(source) // inner.pitch
        if inner.row >= inner.pitch or inner.offset >= inner.pitch or counts[0] != counts[1]:
            return
        covered = 0
        for other, tensor in enumerate(op.inputs):
            place, target = self.places.get(self.owners[tensor]), self._wanted(op, other)
            if place is None or place.root != source or target is None or op.mults[other]:
                continue
            if place.within(whole, self._nbytes(source)) == target:
                covered += place.row
        if covered == inner.pitch:
            self._put(source, whole)


def places_of(
    operators: Sequence[Operator],
    tensors: Sequence[Tensor],
    owners: Sequence[int],
    fixed: frozenset[int],
    apart: frozenset[int],
    chip_bytes: int,
) -> Mapping[int, Place]:
    """See `Insides`."""
    return Insides(operators, tensors, owners, fixed, apart, chip_bytes).find()
