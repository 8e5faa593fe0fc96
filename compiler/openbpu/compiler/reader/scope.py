"""What is known while a model is read: values with their types and constants, and which names are free."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from onnx import TypeProto

from openbpu.compiler.ir.graph import Array, Value
from openbpu.compiler.reader import elements
from openbpu.compiler.reader.export import type_proto


class Names(set[str]):
    """Names that are taken; `fresh` makes more in constant time, however many are alike."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        super().__init__(names)
        self._last: dict[str, int] = {}

    def fresh(self, hint: str) -> str:
        """Return `hint`, with the lowest free number behind it when it is taken, and take the name."""
        name, number = hint, self._last.get(hint, 0)
        while name in self:
            number += 1
            name = f"{hint}_{number}"
        self._last[hint] = number
        self.add(name)
        return name


@dataclass(slots=True)
class Scope:
    """The values of one model by name. Rules ask it for shapes and constants and add constants of their own.

    `opsets` are those of the model as it came; `used` names every value that something reads; `types` keeps
    the ONNX types that hold more than a `Value` can say (dimensions known in part).
    """

    opsets: Mapping[str, int]
    used: set[str]
    taken: Names
    values: dict[str, Value] = field(default_factory=dict)
    types: dict[str, TypeProto] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Static shape of a value, None when not known."""
        value = self.values.get(name)
        return None if value is None else value.shape

    def rank(self, name: str) -> int | None:
        """Number of dimensions of a value, None when not known."""
        shape = self.shape(name)
        if shape is not None:
            return len(shape)
        known = self.types.get(name)
        if known is None or not known.tensor_type.HasField("shape"):
            return None
        return len(known.tensor_type.shape.dim)

    def dtype(self, name: str) -> str:
        """Element type of a value, "other" when not known."""
        value = self.values.get(name)
        return elements.OTHER if value is None else value.dtype

    def const(self, name: str) -> Array | None:
        """Data of a constant, None for everything else."""
        value = self.values.get(name)
        return None if value is None else value.const

    def ints(self, name: str) -> tuple[int, ...] | None:
        """Elements of a constant as Python integers, None when `name` is no constant."""
        data = self.const(name)
        return None if data is None else tuple(int(item) for item in data.reshape(-1))

    def type_of(self, name: str) -> TypeProto:
        """ONNX type of a value, an empty one when nothing is known."""
        if name not in self.types:
            value = self.values.get(name)
            self.types[name] = TypeProto() if value is None else type_proto(value)
        return self.types[name]

    def fresh(self, hint: str) -> str:
        """Return a value name like `hint` that nothing has yet."""
        return self.taken.fresh(hint)

    def add(self, array: Array, hint: str) -> str:
        """Add a constant and return its name."""
        name = self.fresh(hint)
        self.define(constant(name, array))
        return name

    def add_ints(self, items: Iterable[int], hint: str) -> str:
        """Add a one-dimensional int64 constant and return its name."""
        return self.add(np.array(list(items), np.int64), hint)

    def define(self, value: Value) -> None:
        """Make a value known."""
        self.values[value.name] = value

    def define_typed(self, name: str, known: TypeProto) -> None:
        """Make a computed value known by its ONNX type."""
        self.types[name] = known
        self.values[name] = value_of(name, known)


def constant(name: str, array: Array) -> Value:
    """Return an array as a constant value; the array becomes read-only."""
    array.flags.writeable = False
    return Value(name, array.shape, elements.name_of_array(array), array)


def value_of(name: str, known: TypeProto) -> Value:
    """Return a computed value of an ONNX type; its shape is None when a dimension is not a number."""
    if not known.HasField("tensor_type"):
        return Value(name, None, elements.OTHER, None, known if known.WhichOneof("value") else None)
    return Value(name, static_shape(known), elements.name_of(known.tensor_type.elem_type))


def static_shape(known: TypeProto) -> tuple[int, ...] | None:
    """Shape of a tensor type when every dimension is a number of 0 or more, else None."""
    tensor = known.tensor_type
    if not tensor.HasField("shape"):
        return None
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    return None if any(dim < 0 for dim in dims) else dims


def nbytes_of(value: Value) -> float:
    """Bytes a value takes; infinite when its shape is not static or its elements have no fixed size."""
    if value.shape is None or value.dtype in (elements.OTHER, elements.STRING):
        return math.inf
    return math.prod(value.shape) * elements.bits_of(value.dtype) / 8
