"""One node on the way of the batch: where the batch lies in its operands, and what it does to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from openbpu.compiler.ir import Graph, Node
from openbpu.compiler.ir.graph import Array


class Mixed(Exception):  # noqa: N818 - no error: an operator that cannot take another batch
    """The images of a batch do not stay apart; the text says why."""


@dataclass(slots=True)
class Site:
    """A node, the graph it stands in, and where the batch lies in every value.

    axes: the axis of the batch by value; a value that is not there is the same for all images. On its axis
    the batch is outermost: the size is images × what else lies there. images: how many there are · times:
    how many times as many there are to be · makers: nodes by value · constants, repeats: what becomes of
    operands, by their position: new data, and the axis along which they are repeated.
    """

    node: Node
    graph: Graph
    axes: Mapping[str, int]
    images: int
    times: int
    makers: Mapping[str, Node]
    constants: dict[int, Array] = field(default_factory=dict)
    repeats: dict[int, int] = field(default_factory=dict)

    def axis(self, position: int) -> int | None:
        """Return the axis of the batch in an operand, None where it has none or is left out."""
        name = self.node.inputs[position] if position < len(self.node.inputs) else ""
        return self.axes.get(name) if name else None

    def shape(self, position: int) -> tuple[int, ...]:
        """Return the shape of an operand as it was."""
        return self._static(self.node.inputs[position])

    def out_shape(self) -> tuple[int, ...]:
        """Return the shape of the first result as it was."""
        return self._static(self.node.outputs[0])

    def _static(self, name: str) -> tuple[int, ...]:
        shape = self.graph.values[name].shape
        if shape is None:
            raise Mixed(f"the shape of '{name}' is not known")
        return shape

    def ints(self, position: int) -> list[int]:
        """Return a constant operand of whole numbers."""
        data = self.graph.const(self.node.inputs[position])
        if data is None:
            raise Mixed(f"its operand '{self.node.inputs[position]}' is computed")
        return [int(i) for i in data.ravel()]

    def data_axis(self, others: Sequence[int] = ()) -> int:
        """Return the axis of the batch in operand 0, the others being free of it."""
        axis = self.axis(0)
        batched = [i for i in range(len(self.node.inputs)) if i and self.axis(i) is not None]
        if axis is None or set(batched) - set(others):
            raise Mixed("an operand that holds for all images depends on them")
        return axis

    def apart(self, axis: int, others: Sequence[int], what: str) -> int:
        """Return `axis`, unless the node works along it."""
        rank = len(self.shape(0))
        if axis in [o % rank if rank else o for o in others]:
            raise Mixed(f"it {what} the axis of the batch")
        return axis

    def spread(self, position: int, axis: int) -> None:
        """Let an operand without a batch serve more images: by broadcasting, or repeated as a constant."""
        if axis >= 0 and self.shape(position)[axis] != 1:
            self.repeat(position, axis)

    def repeat(self, position: int, axis: int) -> None:
        """Repeat a constant operand for the images, its codes if it is one that is dequantized."""
        name = self.node.inputs[position]
        maker = self.makers.get(name)
        if self.graph.const(name) is None and not (maker and self._dequantizes_constant(maker, axis)):
            raise Mixed(f"its operand '{name}' is the same for every image, and computed")
        self.repeats[position] = axis

    def _dequantizes_constant(self, maker: Node, axis: int) -> bool:
        if maker.op != "DequantizeLinear" or maker.domain or self.graph.const(maker.inputs[0]) is None:
            return False
        rank, one = len(self._static(maker.inputs[0])), prod(self._static(maker.inputs[1])) == 1
        return one or axis != int(maker.attrs.get("axis", 1)) % rank
