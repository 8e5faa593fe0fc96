"""Graph inputs with static shapes: what the model says, completed by what the user gave with `--shape`."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

from onnx import GraphProto, TypeProto, ValueInfoProto

from openbpu.arch.errors import InputError, must
from openbpu.compiler.reader import elements
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.scope import static_shape
from openbpu.compiler.reader.tensors import checked_shape

Shapes = Mapping[str, Sequence[int]]


def runtime_inputs(graph: GraphProto) -> list[ValueInfoProto]:
    """Inputs that are no initializers: models of IR 3 list their weights as inputs too."""
    weights = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    return [value for value in graph.input if value.name not in weights]


def has_dynamic_inputs(graph: GraphProto) -> bool:
    """Whether a tensor that is given at run time has a dimension without a number."""
    tensors = [value.type for value in runtime_inputs(graph) if value.type.HasField("tensor_type")]
    return any(static_shape(known) is None for known in tensors)


def static_inputs(graph: GraphProto, shapes: Shapes | None) -> dict[str, TypeProto]:
    """Return the type of every graph input, dynamic dimensions replaced by those of `shapes`.

    A dimension named like one that `shapes` fixes gets the same number everywhere. Raises ModelError for a
    dynamic dimension that stays, for an unknown input name, for a shape that contradicts the model and for
    one that no array can have; InputError for sizes in `shapes` that are no whole numbers.
    """
    inputs = runtime_inputs(graph)
    given = {name: _sizes(name, sizes) for name, sizes in (shapes or {}).items()}
    names = [value.name for value in inputs]
    for name in given:
        if name not in names:
            raise problem(f"shape of '{name}'", "name", f"an input ({', '.join(names)})", f"'{name}'")
    symbols = _bind_symbols(inputs, given)
    return {value.name: _static_type(value, given.get(value.name), symbols) for value in inputs}


def _sizes(name: str, sizes: Sequence[int]) -> tuple[int, ...]:
    try:
        return tuple(operator.index(size) for size in sizes)
    except TypeError as error:
        fix = "give one size per axis, like (1, 3, 224, 224)"
        raise InputError(must(f"shape of '{name}'", "sizes", "whole numbers", repr(sizes), fix)) from error


def _bind_symbols(inputs: Sequence[ValueInfoProto], given: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    symbols: dict[str, int] = {}
    for value in inputs:
        for axis, (dim, size) in enumerate(
            zip(value.type.tensor_type.shape.dim, given.get(value.name, ()), strict=False)
        ):
            if not dim.dim_param:
                continue
            known = symbols.setdefault(dim.dim_param, size)
            if known != size:
                raise problem(f"input '{value.name}'", f"axis {axis} ({dim.dim_param})", known, size)
    return symbols


def _static_type(
    value: ValueInfoProto, given: tuple[int, ...] | None, symbols: Mapping[str, int]
) -> TypeProto:
    known = TypeProto()
    known.CopyFrom(value.type)
    if not known.HasField("tensor_type"):
        _check_type(value, is_given=known.WhichOneof("value") is not None)
        return known
    _check_type(value, is_given=known.tensor_type.elem_type != 0)
    if given is not None:
        _apply(value, known, given)
    elif known.tensor_type.HasField("shape"):
        for dim in known.tensor_type.shape.dim:
            if not dim.HasField("dim_value") and dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]
    shape = static_shape(known)
    if shape is None:
        _raise_dynamic(value, known)
    else:
        bits = elements.bits_of(elements.name_of(known.tensor_type.elem_type))
        checked_shape(shape, f"input '{value.name}'", bits or 8, "use a smaller input")
    return known


def _check_type(value: ValueInfoProto, *, is_given: bool) -> None:
    if not is_given:
        raise problem(f"input '{value.name}'", "type", "given", "missing", "export the model again")


def _apply(value: ValueInfoProto, known: TypeProto, given: tuple[int, ...]) -> None:
    place = f"input '{value.name}'"
    checked_shape(given, place)
    shape = known.tensor_type.shape
    if not known.tensor_type.HasField("shape"):
        shape.SetInParent()
        for _ in given:
            shape.dim.add()
    if len(shape.dim) != len(given):
        raise problem(place, "shape", f"of rank {len(shape.dim)}", given, "give one size per axis")
    for axis, (dim, size) in enumerate(zip(shape.dim, given, strict=True)):
        if dim.HasField("dim_value") and dim.dim_value >= 0 and dim.dim_value != size:
            fix = "the model fixes this axis: export it with another size"
            raise problem(place, f"axis {axis}", dim.dim_value, size, fix)
        dim.dim_value = size


def _raise_dynamic(value: ValueInfoProto, known: TypeProto) -> None:
    place = f"input '{value.name}'"
    tensor = known.tensor_type
    if not tensor.HasField("shape"):
        fix = f"give it with --shape {value.name}=1,3,224,224"
        raise problem(place, "shape", "static", "unknown", fix)
    axis = next(
        i for i, dim in enumerate(tensor.shape.dim) if not dim.HasField("dim_value") or dim.dim_value < 0
    )
    symbol = tensor.shape.dim[axis].dim_param
    fix = f"give it with --shape {value.name}={_example(tensor)}"
    raise problem(
        place, f"axis {axis}", "a fixed size", f"dynamic ('{symbol}')" if symbol else "dynamic", fix
    )


def _example(tensor: TypeProto.Tensor) -> str:
    """The model's own sizes with the usual ones of an image where it has none."""
    usual = (1, 3, 224, 224)
    dims = tensor.shape.dim
    fallback = usual if len(dims) == 4 else (1,) * len(dims)
    return ",".join(
        str(dim.dim_value if dim.dim_value > 0 else size) for dim, size in zip(dims, fallback, strict=True)
    )
