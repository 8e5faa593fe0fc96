"""What a node costs a CPU, as an estimate: operations and bytes moved, bodies of loops included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from onnx import GraphProto, ModelProto, SparseTensorProto, shape_inference

from openbpu.arch.onnx_ops import VIEWS
from openbpu.arch.shape_data import types_with_data
from openbpu.compiler.ir import Node, Value
from openbpu.compiler.lower.multiply_adds import multiply_adds
from openbpu.compiler.lower.windows import window
from openbpu.compiler.reader import elements
from openbpu.compiler.reader.export import IR_VERSION, opset_imports, tensor_proto, type_proto
from openbpu.compiler.reader.infer import REFUSALS
from openbpu.compiler.reader.nodes import captures_of, node_of
from openbpu.compiler.reader.scope import constant, static_shape
from openbpu.compiler.reader.tensors import TensorReader

Values = Mapping[str, Value]

_PER_ELEMENT = (
    8  # operations an element costs in a transcendental or row function on a CPU, order of magnitude
)
_COSTLIER = {"Erf": 280, "Gelu": 310}
"""A scalar erf: some 30 cycles of a core that does 10 operations in one otherwise."""
_WIDTHS = {
    "float32": 4,
    "float64": 8,
    "int64": 8,
    "uint64": 8,
    "int32": 4,
    "uint32": 4,
    "string": 16,
} | dict.fromkeys(
    ("float16", "bfloat16", "int16", "uint16"), 2
)  # bytes of an element; everything else takes one byte or less
_FREE = VIEWS | {"Shape", "Constant"}
_MOST = 2**62  # what the fields of a segment hold
_ENDLESS = 2**31 - 1  # trip counts from here on are how exporters write `while`
_SMALL = 1024  # elements of a constant that inference may look at: shapes, axes, trip counts


@dataclass(frozen=True, slots=True)
class Work:
    """flops: 2 per multiply-add, a few per element otherwise · moved: bytes read and written."""

    flops: int = 0
    moved: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(min(self.flops + other.flops, _MOST), min(self.moved + other.moved, _MOST))

    def __mul__(self, times: int) -> Work:
        return Work(min(self.flops * times, _MOST), min(self.moved * times, _MOST))


def work(node: Node, values: Values, opsets: Mapping[str, int]) -> Work:
    """Return the work of a node. A body counts as often as it runs where that is constant, else once.

    Of the branches of an If the costlier one counts; what has no static shape counts nothing.
    """
    if node.op in _FREE and not node.domain:
        return Work()
    bodies = _BODIES.get(node.op) if not node.domain else None
    if bodies is None:
        return Work(_flops(node, values), _moved(node, values))
    return bodies(node, values, opsets)


def _size(values: Values, name: str) -> int:
    value = values.get(name)
    return value.size if value is not None and value.shape is not None else 0


def _flops(node: Node, values: Values) -> int:
    counted = multiply_adds(node, values)
    if counted is not None:
        return min(2 * counted, _MOST)
    out = sum(_size(values, o) for o in node.outputs if o)
    largest = max((_size(values, i) for i in node.inputs if i), default=0)
    return max(_COSTLIER.get(node.op, _PER_ELEMENT) * max(out, largest), 2 * window(node, values) * out)


def _moved(node: Node, values: Values) -> int:
    return sum(nbytes(values, n) for n in (*node.inputs, *node.outputs) if n)


def nbytes(values: Values, name: str) -> int:
    """Return the bytes that a value takes beside the CPU; 0 where its shape is not static."""
    value = values.get(name)
    return 0 if value is None or value.shape is None else value.size * _WIDTHS.get(value.dtype, 1)


# --- Bodies ---------------------------------------------------------------------------------------


def _if(node: Node, values: Values, opsets: Mapping[str, int]) -> Work:
    condition = values[node.inputs[0]].const if node.inputs[0] in values else None
    names = ["then_branch", "else_branch"]
    if condition is not None and condition.size == 1:
        names = [names[0] if condition.item() else names[1]]
    return max((_body(node.attrs[n], (), values, opsets) for n in names), key=lambda w: (w.flops, w.moved))


def _loop(node: Node, values: Values, opsets: Mapping[str, int]) -> Work:
    states = [values.get(name) for name in node.inputs[2:]]
    counters = (Value("", (), "int64"), Value("", (), "bool"))
    return _body(node.attrs["body"], (*counters, *states), values, opsets) * _trips(node, values)


def _trips(node: Node, values: Values) -> int:
    """How often a Loop runs: its constant trip count, else the length of what it collects, else 1."""
    most, condition = (values[n].const if n in values else None for n in node.inputs[:2])
    if condition is not None and not condition.all():
        return 0
    if most is not None and most.size == 1 and most.item() < _ENDLESS:
        return max(int(most.item()), 0)
    collected = (values[n].shape for n in node.outputs[len(node.inputs) - 2 :] if n in values)
    return max((shape[0] for shape in collected if shape), default=1)


def _scan(node: Node, values: Values, opsets: Mapping[str, int]) -> Work:
    given = [values.get(name) for name in node.inputs]
    count = int(node.attrs["num_scan_inputs"])
    first = len(given) - count
    axes = tuple(node.attrs.get("scan_input_axes", ())) or (0,) * count
    length = next((v.shape[a] for v, a in zip(given[first:], axes, strict=True) if v and v.shape), 1)
    slices = [_slice(v, a) for v, a in zip(given[first:], axes, strict=True)]
    return _body(node.attrs["body"], (*given[:first], *slices), values, opsets) * length


def _slice(value: Value | None, axis: int) -> Value | None:
    if value is None or not value.shape:
        return None
    axis %= len(value.shape)
    return replace(value, shape=value.shape[:axis] + value.shape[axis + 1 :], const=None)


def _sequence_map(node: Node, values: Values, opsets: Mapping[str, int]) -> Work:
    """How many elements a sequence has is not known: the body counts once."""
    return _body(node.attrs["body"], (), values, opsets)


_BODIES: dict[str, Callable[[Node, Values, Mapping[str, int]], Work]] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
    "SequenceMap": _sequence_map,
}


def _body(
    graph: GraphProto, given: tuple[Value | None, ...], around: Values, opsets: Mapping[str, int]
) -> Work:
    """Return the work of a subgraph, shapes as in its first run; `given`: what is known of its inputs."""
    reader = TensorReader(None)
    seen = {name: around[name] for name in captures_of(graph) if name in around}
    seen |= {i.name: replace(v, name=i.name) for i, v in zip(graph.input, given, strict=False) if v}
    seen |= {t.name: constant(t.name, reader.array(t)) for t in graph.initializer}
    made = {v.name: v for v in _inferred(graph, seen, opsets)} | _constants(graph)
    seen |= {name: value for name, value in made.items() if name not in seen}
    nodes = (node_of(n, reader) for n in graph.node)
    return sum((work(n, seen, opsets) for n in nodes), Work())


def _constants(graph: GraphProto) -> dict[str, Value]:
    """Return what the Constant nodes of a subgraph hold."""
    found = {}
    for proto in graph.node:
        if proto.op_type == "Constant" and not proto.domain:
            (data,) = node_of(proto, TensorReader(None)).attrs.values()
            if not isinstance(data, SparseTensorProto):  # never what decides a shape
                found[proto.output[0]] = constant(proto.output[0], np.asarray(data))
    return found


def _inferred(graph: GraphProto, seen: Values, opsets: Mapping[str, int]) -> Iterator[Value]:
    """Yield what the nodes of a subgraph make, as onnx infers it from what they see."""
    model = ModelProto(ir_version=IR_VERSION, opset_import=opset_imports(opsets))
    model.graph.name = "body"
    model.graph.node.extend(graph.node)
    for name, value in seen.items():
        if value.const is not None and value.const.size <= _SMALL and value.const.dtype.kind in "iufb":
            model.graph.initializer.append(tensor_proto(name, value.const))
        else:
            model.graph.input.add(name=name, type=type_proto(value))
    try:
        types = types_with_data(model, shape_inference.infer_shapes)
    except REFUSALS:
        return
    for name, known in types.items():
        if name not in seen:
            yield Value(name, static_shape(known), elements.name_of(known.tensor_type.elem_type))
