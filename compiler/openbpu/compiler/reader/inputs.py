"""Graph inputs with static shapes: what the model says, completed by what the user gave with `--shape`."""

from __future__ import annotations

from onnx import GraphProto, TypeProto, ValueInfoProto

from openbpu.arch.given_shapes import Shapes, give_shapes
from openbpu.compiler.reader import elements
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.scope import static_shape
from openbpu.compiler.reader.tensors import checked_shape


def runtime_inputs(graph: GraphProto) -> list[ValueInfoProto]:
    """Inputs that are no initializers: models of IR 3 list their weights as inputs too."""
    weights = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    return [value for value in graph.input if value.name not in weights]


def has_dynamic_inputs(graph: GraphProto, shapes: Shapes | None = None) -> bool:
    """Whether a tensor that is given at run time has, beside `shapes`, an axis without a number.

    Raises what `give_shapes` raises.
    """
    inputs = [_copy(value) for value in runtime_inputs(graph)]
    give_shapes(inputs, shapes or {})
    return any(static_shape(value.type) is None for value in inputs if value.type.HasField("tensor_type"))


def static_inputs(graph: GraphProto, shapes: Shapes | None) -> dict[str, TypeProto]:
    """Return the type of every graph input, free axes replaced by those of `shapes`.

    Raises what `give_shapes` raises, and ModelError for an axis that stays free and for a shape that no array
    can have.
    """
    inputs = [_copy(value) for value in runtime_inputs(graph)]
    give_shapes(inputs, shapes or {})
    return {value.name: _static_type(value) for value in inputs}


def _copy(value: ValueInfoProto) -> ValueInfoProto:
    made = ValueInfoProto()
    made.CopyFrom(value)
    return made


def _static_type(value: ValueInfoProto) -> TypeProto:
    known = value.type
    if not known.HasField("tensor_type"):
        _check_type(value, is_given=known.WhichOneof("value") is not None)
        return known
    _check_type(value, is_given=known.tensor_type.elem_type != 0)
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
