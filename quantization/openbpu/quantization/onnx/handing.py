"""What goes from the BPU to nodes that compute in float, and in which integers.

    A (int16) ─► t ─► F (float) ─► u ─► B (int16)         t and u are int16

Nobody on the BPU reads t, so nobody there says what it shall be; an int8 pair would take from F what float is
for, and from A what int16 is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from onnx import NodeProto

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.asked import Types
from openbpu.quantization.onnx.classes import Kind, data_inputs
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.nodes import reads

NO_VALUES = frozenset({"Shape", "Size", "QuantizeLinear", "DequantizeLinear"})
"""Operators that do not compute with the values that they read, or round them themselves."""


class Handed:
    """Which sources float nodes read, and which of them want int16.

    asked: what is asked for · unrounded: tensors inside of what is fused · unit: by node, the type that its
    unit is asked to read · fixed: what does not depend on the inputs' values.
    """

    def __init__(
        self,
        net: Net,
        kinds: Sequence[Kind],
        asked: Types,
        unrounded: frozenset[str],
        unit: Mapping[int, DType],
        fixed: frozenset[str],
    ) -> None:
        self._net, self._kinds, self._asked = net, kinds, asked
        self._unrounded, self._unit, self._fixed = unrounded, unit, fixed
        self._makers = net.producers()

    def wants_int16(
        self, sources: Mapping[str, str], others: Mapping[str, set[DType]], *, is_taken: bool
    ) -> Iterator[str]:
        """Yield the sources that are int16 because of the float nodes that read them.

        sources: by tensor · others: the types that nodes of the BPU take, by source · is_taken: whether
        int16 is for activations at all. A source is int16 where the node that makes it reads int16, and, for
        nodes that were asked to stay float, where nobody takes it in int8.
        """
        for source, readers in self._float_readers(sources).items():
            if not self._is_made_on_bpu(source):
                continue  # float nodes read what was made
            is_asked = any(self._asked.is_float(node) for node in readers)
            if self._reads_int16(source) or (
                is_asked and is_taken and others.get(source, set()) <= {DType.INT16}
            ):
                yield source

    def _float_readers(self, sources: Mapping[str, str]) -> dict[str, list[NodeProto]]:
        found: dict[str, list[NodeProto]] = {}
        for node, kind in zip(self._net.nodes, self._kinds, strict=True):
            if kind is not Kind.CPU or node.op_type in NO_VALUES or self._fixed.issuperset(node.output):
                continue
            for name in dict.fromkeys(reads(node)):
                if name in sources:
                    found.setdefault(sources[name], []).append(node)
        return found

    def _is_made_on_bpu(self, name: str) -> bool:
        return name in self._makers and self._kinds[self._makers[name]] not in {Kind.CPU, Kind.KEEP}

    def _reads_int16(self, name: str) -> bool:
        """Whether int16 is asked of the node that makes a tensor, or of one that it is fused with."""
        index = self._makers[name]
        node = self._net.nodes[index]
        if self._unit.get(index) is DType.INT16:
            return True
        data = set(data_inputs(node))
        for position, read in enumerate(node.input):
            if read not in data or not self._net.is_live(read):
                continue
            if self._asked.of(node, position) is DType.INT16:
                return True
            if read in self._unrounded and self._is_made_on_bpu(read) and self._reads_int16(read):
                return True
        return False
