"""What is made of constants alone becomes constant: codes behind chains of Q, DQ, Clip, Cast, Mul, …

w → Q → Clip → DQ → Conv                  becomes      codes → DQ → Conv
DQ(codes) → Clip → Conv                   becomes      DQ(clipped codes) → Conv

Dequantized constants stay what they are: their scale is what the operator behind them needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import QuantizationError, must
from openbpu.arch.shapes import along
from openbpu.compiler.ir import Array, Graph, Node, Rewriter, Value
from openbpu.compiler.ir.qdq import DEQUANTIZE, Scaling, is_dequantize, is_quantize, scaling
from openbpu.compiler.reader.fold import FOLD_BYTES, constant_results

_CODES = ("int8", "uint8", "int16", "uint16", "int32")
_SAME_GRID = frozenset({"Abs", "Clip", "Max", "Min", "Neg", "Relu"})
"""What can keep reals on the grid of their codes, element by element."""


def fold_constants(graph: Graph) -> Graph:
    """Replace codes that are made of constants alone by what they are."""
    walk = _Walk(graph)
    for node in graph.nodes:
        walk.visit(node)
    return walk.rw.finish()


@dataclass(slots=True)
class _Walk:
    """`rw.values` grows the constants; `makers` are the nodes that make reals of constants alone."""

    graph: Graph
    rw: Rewriter = field(init=False)
    makers: dict[str, Node] = field(default_factory=dict)
    reals: dict[str, Array | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rw = Rewriter(self.graph)

    def visit(self, node: Node) -> None:
        if is_quantize(node):
            if not self.quantized(node):
                self.rw.nodes.append(node)
            return
        known = bool(node.inputs) and not node.captures and all(self.is_known(n) for n in node.inputs if n)
        if known and is_dequantize(node):
            self.makers[node.outputs[0]] = node
        elif known and not node.domain:
            if self.folded(node) or self.regridded(node):
                return
            self.makers.update((out, node) for out in node.outputs if out)
        self.rw.nodes.append(node)

    def is_known(self, name: str) -> bool:
        return name in self.makers or self.rw.values[name].const is not None

    def quantized(self, node: Node) -> bool:
        """Turn the Quantize of what is constant into its codes."""
        if not self.is_known(node.inputs[0]):
            return False
        scale = scaling(self.view(), node)
        if scale is None or scale.dtype not in _CODES:
            return False
        data = self.real(node.inputs[0])
        if data is None or data.dtype not in (np.float32, np.float64):
            return False
        _check_numbers(node, data)
        self.rw.set_value(_coded(self.rw.values[node.outputs[0]], data, scale))
        return True

    def folded(self, node: Node) -> bool:
        """Turn an operator on constant codes into the codes it makes."""
        arrays = [self.rw.values[n].const if n else None for n in node.inputs]
        if any(a is None for a, n in zip(arrays, node.inputs, strict=True) if n):
            return False
        if not any(n and self.graph.const(n) is None for n in node.inputs):
            return False  # the reader has left it alone
        made = self.results(node, arrays)
        if made is None:
            return False
        for value, array in made:
            self.rw.set_value(replace(value, const=array, shape=array.shape))
        return True

    def results(self, node: Node, arrays: list[Array | None]) -> list[tuple[Value, Array]] | None:
        outputs = [self.rw.values[name] for name in node.outputs if name]
        made = constant_results(node, arrays, outputs, self.graph.opsets.get("", 0))
        return None if made is None else list(zip(outputs, made, strict=True))

    def real(self, name: str) -> Array | None:
        """Reals that constants give, in the type of the graph; None where nothing here computes them."""
        data = self.rw.values[name].const
        if data is not None:
            return data
        if name not in self.reals:
            self.reals[name] = None
            self.reals.update(self.computed(self.makers[name]))
        return self.reals[name]

    def computed(self, node: Node) -> Iterator[tuple[str, Array]]:
        if is_dequantize(node):
            scale, codes = scaling(self.view(), node), self.rw.values[node.inputs[0]].const
            if scale is not None and codes is not None and codes.nbytes * 4 <= FOLD_BYTES:
                yield node.outputs[0], _dequantized(codes, scale)
            return
        arrays = [self.real(n) if n else None for n in node.inputs]
        if all(a is not None for a, n in zip(arrays, node.inputs, strict=True) if n):
            for value, array in self.results(node, arrays) or ():
                yield value.name, array

    def regridded(self, node: Node) -> bool:
        """Let a DQ make what an operator makes of a dequantized constant, where codes of its scale can."""
        source = self.makers.get(node.inputs[0])
        if node.op not in _SAME_GRID or source is None or not is_dequantize(source):
            return False
        scale = scaling(self.view(), source)
        same = self.rw.values[node.outputs[0]].shape == self.rw.values[source.inputs[0]].shape
        if scale is None or scale.dtype not in _CODES or scale.offset is not None or not same:
            return False
        data = dict(self.computed(node)).get(node.outputs[0])
        if data is None or np.isnan(data).any():
            return False
        codes = _quantized(data, scale)
        if not np.array_equal(_dequantized(codes, scale), data):
            return False
        name = self.rw.constant(f"{node.outputs[0]}/q", codes)
        origins = tuple(dict.fromkeys([*source.origins, *node.origins]))
        made = self.rw.add(DEQUANTIZE, (name, *source.inputs[1:]), node.outputs, origins, **source.attrs)
        self.makers[node.outputs[0]] = made
        return True

    def view(self) -> Graph:
        return replace(self.graph, values=self.rw.values)


def _check_numbers(node: Node, data: Array) -> None:
    if np.isnan(data).any():
        where, fix = f"node '{node.name}' ({node.op})", "check the training, or the export of that weight"
        raise QuantizationError(must(where, f"constant '{node.inputs[0]}'", "made of numbers", "NaN", fix))


def _coded(value: Value, data: Array, scale: Scaling) -> Value:
    codes = _quantized(data, scale)
    return replace(value, const=codes, dtype=scale.dtype, shape=codes.shape)


def _quantized(data: Array, scale: Scaling) -> Array:
    shape = _spread(data, scale)
    return numerics.quantize(data, scale.scale.reshape(shape), scale.zero.reshape(shape), DType(scale.dtype))


def _dequantized(codes: Array, scale: Scaling) -> Array:
    shape = _spread(codes, scale)
    return numerics.dequantize(codes, scale.scale.reshape(shape), scale.zero.reshape(shape))


def _spread(data: Array, scale: Scaling) -> tuple[int, ...]:
    """The shape that lays scales along their axis."""
    return along(None if scale.per_tensor else scale.axis, np.ndim(data))
