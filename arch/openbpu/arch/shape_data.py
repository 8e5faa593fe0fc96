"""Tensors that hold shapes: how many axes one may name, how many numbers onnx's inference may carry along.

The models are looked at without onnx, which this package does not import.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from openbpu.arch.errors import ModelError, must
from openbpu.arch.hbm.check import MAX_RANK

SHAPE_INPUT = {"ConstantOfShape": 0, "Expand": 1, "Reshape": 1, "Unsqueeze": 1}
"""Operators that give their result an axis per element of an input, and which input that is."""

_CARRYING = frozenset({"Add", "Cast", "Concat", "Gather", "Mul", "Slice", "Squeeze", "Sub", "Unsqueeze"})
"""Operators whose numbers onnx computes while it infers (`data_prop`), besides Shape and Size."""

_MOST = 1 << 16
Shape = Sequence[int | None]


def check_axes(where: str, op: str, shapes: Sequence[Sequence[object] | None]) -> None:
    """Raise ModelError for an operator of ai.onnx that would give its result more axes than a tensor has.

    shapes: those of its inputs. A shape of 2²⁶ elements is a file of some bytes, and whoever infers its
    result takes a structure for every axis.
    """
    at = SHAPE_INPUT.get(op, -1)
    shape = shapes[at] if 0 <= at < len(shapes) else None
    count = math.prod(d for d in shape or () if isinstance(d, int))
    if count > MAX_RANK:
        fix = "export it with fewer axes"
        raise ModelError(must(where, "number of axes", f"at most {MAX_RANK}", f"{count:,}", fix))


def types_with_data(model: Any, infer: Callable[..., Any]) -> dict[str, Any]:
    """Return by name the TypeProtos that onnx infers for a ModelProto (which is changed), with data carried.

    infer: `onnx.shape_inference.infer_shapes`. With `data_prop` it makes some 80 bytes for every element of a
    tensor of one axis that certain operators read, known or not: 2³⁶ of them for a shape that is joined to
    itself 36 times. So lists of more than 65,536 numbers are cut off first; the lengths that this costs are
    those of inference without data.

    c = ConstantOfShape(n)  y = Add(c, c)    →    c = ConstantOfShape(n)  y = Add(c/uncarried, c/uncarried)
    """
    plain = _types(infer(model).graph)
    if not _cut(model.graph, plain):
        return plain
    carried = _types(infer(model, data_prop=True).graph)
    missed = {
        n: t for n, t in plain.items() if _is_static(t) and not (n in carried and _is_static(carried[n]))
    }
    return {**carried, **missed}


def _types(graph: Any) -> dict[str, Any]:
    return {v.name: v.type for v in (*graph.value_info, *graph.output, *graph.input)}


def _is_static(known: Any) -> bool:
    shape = _shape(known)
    return shape is not None and None not in shape


def _cut(graph: Any, types: Mapping[str, Any]) -> bool:
    """Change a GraphProto so that nothing long is carried; False where it cannot be done: inside bodies."""
    cuts = list(_long_reads(graph, {name: _shape(known) for name, known in types.items()}, {}))
    if any(node is None for node, _ in cuts):
        return False
    for node, index in cuts:
        name = node.input[index]
        node.input[index] = f"{name}/uncarried"
        if all(value.name != node.input[index] for value in graph.input):
            declared = graph.input.add(name=node.input[index])
            if name in types:
                declared.type.CopyFrom(types[name])
                _forget_length(declared.type)
    return True


def _forget_length(known: Any) -> None:
    """Take the length from the type of a tensor of one axis: a list is made of a known one."""
    for dim in known.tensor_type.shape.dim if known.HasField("tensor_type") else ():
        dim.Clear()


def _shape(known: Any) -> Shape | None:
    tensor = known.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]


def _long_reads(
    graph: Any, shapes: Mapping[str, Shape | None], around: Mapping[str, int]
) -> Iterator[tuple[Any, int]]:
    """Yield what would make inference carry long lists: a node and which input; (None, 0) if in a body."""
    counts = dict(around)  # how many numbers a tensor has at most, where that is sure
    for tensor in graph.initializer:
        if len(tensor.dims) <= 1:
            counts[tensor.name] = math.prod(tensor.dims)
    fed = {value.name for value in graph.input}
    for node in graph.node:
        if any(True for body in _bodies(node) for _ in _long_reads(body, shapes, counts)):
            yield None, 0
        if node.op_type in _CARRYING or node.op_type == "Size":
            yield from _long_inputs(node, shapes, counts, fed)
        count = _made(node, shapes, counts)
        if count is not None:
            counts.update(dict.fromkeys(node.output, count))


def _bodies(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _long_inputs(
    node: Any, shapes: Mapping[str, Shape | None], counts: Mapping[str, int], fed: set[str]
) -> Iterator[tuple[Any, int]]:
    total = 0
    for index, name in enumerate(node.input):
        shape = shapes.get(name)
        if not name or (shape is not None and len(shape) != 1):
            continue
        if name not in counts and shape == [None] and name in fed:
            continue  # its length stays unknown
        total += counts.get(name, _MOST + 1)
        if counts.get(name, _MOST + 1) > _MOST or (node.op_type == "Concat" and total > _MOST):
            yield node, index


def _made(node: Any, shapes: Mapping[str, Shape | None], counts: Mapping[str, int]) -> int | None:
    """Return at most how many numbers an output has; None where a shape decides that is not known yet."""
    if node.op_type in {"Shape", "Size"}:
        return MAX_RANK
    shape = shapes.get(node.output[0]) if node.output else None
    if shape is not None and len(shape) <= 1 and None not in shape:
        return math.prod(d for d in shape if d is not None)
    given = [counts.get(name) for name in node.input if name]
    known = [count for count in given if count is not None]
    if node.op_type not in _CARRYING or len(known) < len(given):
        return None
    return sum(known) if node.op_type == "Concat" else max(known, default=0)
