"""The inputs of a model, and which of their axes are free.

A free axis has no number. Older exporters write it as -1 or 0.
"""

from __future__ import annotations

from onnx import ModelProto, ValueInfoProto

from openbpu.arch.given_shapes import Shapes, give_shapes

_FREE = (-1, 0)


def set_axes_free(header: ModelProto) -> None:
    """Take the numbers from axes that older exporters mean to be free (in place)."""
    for value in (*header.graph.input, *header.graph.output, *header.graph.value_info):
        _set_free(value)


def fed_inputs(model: ModelProto, shapes: Shapes | None = None) -> list[ValueInfoProto]:
    """Return copies of the inputs that have no initializer: free axes without number, `shapes` written in.

    Raises what `give_shapes` raises.
    """
    graph = model.graph
    constants = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    inputs = [_free_copy(value) for value in graph.input if value.name not in constants]
    give_shapes(inputs, shapes or {})
    return inputs


def _free_copy(value: ValueInfoProto) -> ValueInfoProto:
    made = ValueInfoProto()
    made.CopyFrom(value)
    _set_free(made)
    return made


def _set_free(value: ValueInfoProto) -> None:
    for dim in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
        if dim.HasField("dim_value") and dim.dim_value in _FREE:
            dim.ClearField("dim_value")
