"""What stands around a unit: who reads it and in which types, what corrections reach it, what it swallows."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

from onnx import NodeProto

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import OpenbpuError
from openbpu.arch.onnx_ops import PRODUCTS
from openbpu.evaluation.analysis.advice import Around, is_good
from openbpu.evaluation.analysis.compared import Compared
from openbpu.evaluation.analysis.foreseen import shares_left
from openbpu.evaluation.analysis.rounding import DEQUANTIZE, QUANTIZE, constant_arrays
from openbpu.evaluation.analysis.units import Match, Unit
from openbpu.evaluation.analysis.watch import Watch
from openbpu.evaluation.analysis.weights import Weights
from openbpu.quantization.onnx.classes import TABLE, data_inputs
from openbpu.quantization.onnx.corrections.reach import equalised_tensors
from openbpu.quantization.onnx.nodes import reads
from openbpu.quantization.onnx.samples import Feed
from openbpu.quantization.onnx.swallowed import ADDED, BESIDE, FEW, values_beside

_LAYERS = 16
"""Products whose corrections get a figure: each takes a run of its own."""
_SAMPLES = 4


class Surroundings:
    """Looks around the units of one analysis. tops: the largest magnitude by tensor of the float model."""

    def __init__(self, of: Compared, found: Match, weights: Weights, tops: Mapping[str, float]) -> None:
        self._of, self._found, self._weights, self._tops = of, found, weights, tops
        self._constants = constant_arrays(of.quantized)
        self._left = _LAYERS
        self._moved = {unit.index for unit in found.units if unit.moved}
        self._known = {node.name for node in of.float.nodes}
        self._owner = {k: self._name(unit) for unit in found.units for k in unit.nodes}
        self._consumers: dict[str, list[int]] = {}
        for k, node in enumerate(of.quantized.nodes):
            for name in reads(node):
                self._consumers.setdefault(name, []).append(k)

    def of(self, watch: Watch, feeds: Sequence[Feed]) -> Around:
        """Return what stands around the unit of a watch."""
        unit = watch.unit
        readers: dict[str, bool] = {}
        for name, wide in self._readers(unit):
            readers[name] = readers.get(name, False) or wide
        return Around(
            name=self._name(unit),
            weights=self._weights.ranges.get(unit.index),
            foreign=self._weights.foreign.get(unit.index, 0.0),
            corrections=self._corrections(watch, feeds),
            masked=unit.softmax is not None and watch.hidden,
            readers=tuple(name for name, wide in readers.items() if wide),
            stuck=tuple(name for name, wide in readers.items() if not wide),
            output=unit.value in self._of.quantized.outputs,
            alike=lambda: unit.tensor in self._equalised,
            within=self._may_be_wide_within(unit),
            swallowed=tuple(self._swallowed(unit)),
        )

    def _corrections(self, watch: Watch, feeds: Sequence[Feed]) -> dict[str, float | None]:
        """Return the options that reach the weights of a bad unit's node, and what each would leave."""
        index = watch.unit.index
        found = self._weights.corrections.get(index)
        if found is None or is_good(watch):
            return {}
        node = self._of.quantized.nodes[index]
        read = self._found.aliases.get(node.input[0], "")
        left: Mapping[str, float] = {}
        product = self._weights.product(index) if self._left else None
        if product is not None and read:
            self._left -= 1
            cut = self._of.float.cut([read])
            left = shares_left(product, [cut.run(feed)[read] for feed in feeds[:_SAMPLES]])
        reached = [*(["--equalisation"] if read in self._equalised else []), *found]
        return {option: left.get(option) for option in reached}

    @functools.cached_property
    def _equalised(self) -> frozenset[str]:
        try:
            return equalised_tensors(self._of.float.model)
        except OpenbpuError:  # not a model that is quantized as it is
            return frozenset()

    def _readers(self, unit: Unit) -> Iterator[tuple[str, bool]]:
        """Yield the nodes that read a result, through pairs and what only moves it, and whether in int16."""
        graph = self._of.quantized
        todo, seen = [unit.raw, unit.value], set[str]()
        while todo:
            name = todo.pop()
            for k in self._consumers.get(name, ()) if name not in seen else ():
                node = graph.nodes[k]
                if k in self._moved or node.op_type in {QUANTIZE, DEQUANTIZE}:
                    todo += node.output
                elif called := self._called(k):
                    yield called, self._takes_int16(node, name)
            seen.add(name)

    def _name(self, unit: Unit) -> str:
        """Return how `quantize` knows a unit's node: where the float model lacks it, by what it makes."""
        return unit.node if unit.node in self._known else unit.tensor

    def _called(self, index: int) -> str:
        """Return how `quantize` knows a node: by its name, or that of the node it was made of."""
        node = self._of.quantized.nodes[index]
        return node.name if node.name in self._known else self._owner.get(index, "") or node.name

    def _takes_int16(self, node: NodeProto, name: str) -> bool:
        """Whether an operand may be int16 on the BPU."""
        row, fixed = TABLE.get(node.op_type), node.op_type in PRODUCTS and self._is_constant(node.input[0])
        if row is None or fixed:
            return row is not None
        return all(row.types.get(i) is not DType.INT8 for i, read in enumerate(node.input) if read == name)

    def _is_constant(self, name: str) -> bool:
        maker = self._of.quantized.made.get(name)
        node = self._of.quantized.nodes[maker] if maker is not None else None
        return name in self._constants or (
            node is not None and node.op_type == DEQUANTIZE and node.input[0] in self._constants
        )

    def _may_be_wide_within(self, unit: Unit) -> bool:
        """Whether a pair inside a unit is int8 that could be int16."""
        nodes = self._of.quantized.nodes
        inner = [nodes[k] for k in unit.nodes if nodes[k].op_type == DEQUANTIZE]
        computed = [name for node in inner if not self._is_constant(node.input[0]) for name in node.output]
        readers = [
            (nodes[k], name) for name in computed if name != unit.value for k in self._consumers.get(name, ())
        ]
        return not readers or any(self._takes_int16(reader, name) for reader, name in readers)

    def _swallowed(self, unit: Unit) -> Iterator[str]:
        node = self._of.quantized.nodes[unit.index] if unit.index >= 0 else None
        pair = unit.rounding
        if node is None or pair is None or not pair.step or unit.softmax is not None:
            return
        beside = node.op_type in BESIDE
        if not beside and node.op_type not in ADDED:
            return
        for name in values_beside(node.op_type, list(node.input)) if beside else data_inputs(node):
            top = self._tops.get(self._found.aliases.get(name, ""), 0.0)
            if 0 < top < FEW["beside" if beside else "added"] * pair.step:
                yield f"'{self._found.aliases[name]}' {top / pair.step:.2g} steps"
