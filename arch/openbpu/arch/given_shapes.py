"""The sizes that a user gives to the free axes of a model's inputs: `--shape NAME=1,3,224,224`.

Compiler and quantization take them alike and say no in the same words. The messages of ONNX are looked at
without onnx, which this package does not import.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from openbpu.arch.errors import InputError, ModelError, must

Shapes = Mapping[str, Sequence[int]]


def give_shapes(inputs: Sequence[Any], shapes: Shapes) -> None:
    """Write `shapes` into ValueInfoProtos (changed in place); what nothing is given for stays as it is.

    An axis with the name of one that is given gets the same number everywhere. Free axes are those without a
    number, and those that older exporters write as -1 or 0. Raises ModelError for a name that is no input and
    for a shape that contradicts the model; InputError for sizes that are no whole numbers.
    """
    given = {name: _sizes(name, sizes) for name, sizes in shapes.items()}
    names = [value.name for value in inputs]
    for name in given:
        if name not in names:
            allowed = f"an input ({', '.join(names)})"
            raise ModelError(must(f"shape of '{name}'", "name", allowed, f"'{name}'"))
    symbols = _symbols(inputs, given)
    for value in inputs:
        if value.name in given:
            _apply(value, given[value.name])
        for dim in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
            if not dim.HasField("dim_value") and dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]


def _sizes(name: str, sizes: Sequence[int]) -> tuple[int, ...]:
    try:
        found = tuple(operator.index(size) for size in sizes)
    except TypeError as error:
        fix = "give one size per axis, like (1, 3, 224, 224)"
        raise InputError(must(f"shape of '{name}'", "sizes", "whole numbers", repr(sizes), fix)) from error
    if any(size < 0 for size in found):
        raise ModelError(must(f"input '{name}'", "dimensions", "0 or more", found, "give one size per axis"))
    return found


def _symbols(inputs: Sequence[Any], given: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the sizes of the named axes."""
    symbols: dict[str, int] = {}
    for value in inputs:
        sizes = given.get(value.name, ())
        for axis, (dim, size) in enumerate(zip(value.type.tensor_type.shape.dim, sizes, strict=False)):
            if not dim.dim_param:
                continue
            known = symbols.setdefault(dim.dim_param, size)
            if known != size:
                what = f"axis {axis} ({dim.dim_param})"
                raise ModelError(must(f"input '{value.name}'", what, known, size))
    return symbols


def _apply(value: Any, given: tuple[int, ...]) -> None:
    place = f"input '{value.name}'"
    if not value.type.HasField("tensor_type"):
        fix = "leave it out of the shapes"
        raise ModelError(must(place, "what has a shape", "a tensor", value.type.WhichOneof("value"), fix))
    shape = value.type.tensor_type.shape
    if not value.type.tensor_type.HasField("shape"):
        shape.SetInParent()
        for _ in given:
            shape.dim.add()
    if len(shape.dim) != len(given):
        fix = "give one size per axis"
        raise ModelError(must(place, "shape", f"of rank {len(shape.dim)}", given, fix))
    for axis, (dim, size) in enumerate(zip(shape.dim, given, strict=True)):
        if dim.HasField("dim_value") and dim.dim_value > 0 and dim.dim_value != size:
            fix = "the model fixes this axis: export it with another size"
            raise ModelError(must(place, f"axis {axis}", dim.dim_value, size, fix))
        dim.dim_value = size
