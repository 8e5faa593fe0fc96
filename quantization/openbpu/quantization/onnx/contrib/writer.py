"""What the nodes that stand for one are collected in."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from openbpu.arch.arrays import Array
from openbpu.quantization.onnx.net import Names, Net, Shape
from openbpu.quantization.onnx.nodes import attribute, name_of
from openbpu.quantization.onnx.scaled import PART

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


class KeptError(Exception):
    """A form that is not written out; its text says why."""


class Writer:
    """Collects the nodes that stand for one."""

    def __init__(self, net: Net, names: Names, node: NodeProto, consts: dict[str, Array]) -> None:
        self.net, self.node, self._names, self._consts = net, node, names, consts
        self.made: list[NodeProto] = []

    def op(self, op: str, *inputs: str, **more: Any) -> str:
        """Add a node and return its result."""
        base = f"{self.node.name or self.node.output[0]}_{op}"
        out = self._names.fresh(base)
        made = helper.make_node(op, list(inputs), [out], self._names.fresh(base), **more)
        made.metadata_props.add(key=PART, value=name_of(self.node))
        self.made.append(made)
        return out

    def number(self, value: float) -> str:
        """Add a scalar."""
        return self.const(np.array(value, np.float32))

    def whole(self, *values: int) -> str:
        """Add a list of whole numbers, as shapes and axes are."""
        return self.const(np.array(values, np.int64))

    def const(self, value: Array) -> str:
        """Add a constant."""
        name = self._names.fresh(f"{self.node.name or self.node.output[0]}_constant")
        self._consts[name] = value
        return name

    def value(self, name: str) -> Array | None:
        """Return a constant of the model or of this writer; None for what is computed or fed."""
        found = self._consts.get(name)
        return self.net.consts.get(name) if found is None else found

    def shape(self, name: str) -> Shape | None:
        """Return the shape of a tensor or constant of the model; None where not even the rank is known."""
        array = self.value(name)
        return self.net.shapes.get(name) if array is None else array.shape

    def rank(self, name: str) -> int:
        """Return the rank of a tensor of the model; raises KeptError where it is not known."""
        shape = self.shape(name)
        if shape is None:
            raise KeptError(f"the rank of '{name}' is not known")
        return len(shape)

    def is_bool(self, name: str) -> bool:
        """Whether a tensor or constant of the model is of bool."""
        array = self.value(name)
        return self.net.types.get(name) == BOOL if array is None else array.dtype == np.bool_

    def mean(self, x: str) -> str:
        """Return the mean along the last axis."""
        if self.net.opset < 18:
            return self.op("ReduceMean", x, axes=[-1], keepdims=1)
        return self.op("ReduceMean", x, self.whole(-1), keepdims=1)

    def unsqueeze(self, x: str, *axes: int) -> str:
        """Return `x` with axes of length 1 in these places of the result."""
        if self.net.opset < 13:
            return self.op("Unsqueeze", x, axes=list(axes))
        return self.op("Unsqueeze", x, self.whole(*axes))

    def cut(self, x: str, ends: tuple[int, int], axis: int) -> str:
        """Return what lies from `ends` on, up to the second, along an axis; of a constant a constant."""
        start, stop = ends
        array = self.value(x)
        if array is None:
            return self.op("Slice", x, self.whole(start), self.whole(stop), self.whole(axis))
        return self.const(np.ascontiguousarray(np.take(array, np.arange(start, stop), axis=axis)))

    def pick(self, x: str, index: int, axis: int) -> str:
        """Return one entry of an axis, without that axis."""
        return self.op("Gather", x, self.const(np.array(index, np.int64)), axis=axis)

    def length(self, x: str, axis: int) -> str:
        """Return the length of an axis as a scalar of int64; it folds where it is known."""
        return self.op("Gather", self.op("Shape", x), self.const(np.array(axis, np.int64)))

    def given(self, position: int) -> str:
        """Return an input, "" where it is left out."""
        return self.node.input[position] if position < len(self.node.input) else ""

    def need(self, *positions: int) -> None:
        """Raise KeptError where one of these inputs is left out."""
        missing = [position for position in positions if not self.given(position)]
        if missing:
            raise KeptError(f"its input {missing[0]} is left out")

    def attr(self, name: str, default: Any) -> Any:
        """Return an attribute, or `default`."""
        return attribute(self.node, name, default)

    def wants(self, position: int) -> bool:
        """Whether an output has a name."""
        return position < len(self.node.output) and bool(self.node.output[position])
