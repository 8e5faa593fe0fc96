"""What is done to an ONNX model, by kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, defs, helper

from fuzz.edges import INTEGERS, TEXTS

Mutation = Callable[[random.Random, ModelProto], str]
"""Changes the model; returns in words what was done."""

_NAMES = ("", "x", "y", "nowhere", "\x1b[31m", "a/b", "..", "·" * 40, "x_q", "input0")
_SIZES = (0, 1, -1, 2, 3, 7, 64, 2**16, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1)
_INT64 = tuple(v for v in INTEGERS if -(2**63) <= v < 2**63)
_INT32 = tuple(v for v in INTEGERS if -(2**31) <= v < 2**31)
_REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-38, 3e38, float("nan"), float("inf"), float("-inf"))
_DOMAINS = ("", "ai.onnx", "com.microsoft", "ai.onnx.ml", "own", "my.ops", "\x00")
_OPS = tuple(sorted({s.name for s in defs.get_all_schemas() if s.domain == ""}))


def graphs(proto: ModelProto) -> Iterator[GraphProto]:
    """The graph and every graph inside its nodes."""
    yield from _graphs(proto.graph)


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in {5, 10} else ():
                yield from _graphs(inner)


def _node(rng: random.Random, proto: ModelProto) -> NodeProto:
    nodes: list[NodeProto] = [n for g in graphs(proto) for n in g.node]
    nodes += [n for f in proto.functions for n in f.node]
    return rng.choice(nodes) if nodes else NodeProto(op_type="Relu")


def _values(proto: ModelProto) -> list[str]:
    names = {n for g in graphs(proto) for node in g.node for n in (*node.input, *node.output)}
    return sorted(names | {t.name for t in proto.graph.initializer}) or [""]


def operator(rng: random.Random, proto: ModelProto) -> str:
    """A node becomes another operator, or one of another domain."""
    node = _node(rng, proto)
    old = node.op_type
    if rng.randrange(5):
        others = [n.op_type for n in proto.graph.node]
        node.op_type = rng.choice(_OPS if rng.randrange(3) else (*others, "", "Rlu"))
    else:
        node.domain = rng.choice(_DOMAINS)
    return f"{old} → {node.domain}:{node.op_type}"


def attribute(rng: random.Random, proto: ModelProto) -> str:
    """An attribute has another value or type, is gone, is there twice, or is new."""
    node = _node(rng, proto)
    if not node.attribute or rng.randrange(8) == 0:
        return _new_attribute(rng, node)
    at = rng.randrange(len(node.attribute))
    a = node.attribute[at]
    how = rng.randrange(8)
    if how == 0:
        del node.attribute[at]
    elif how == 1:
        node.attribute.append(a)
    elif how == 2:
        a.type = rng.choice(list(AttributeProto.AttributeType.values()))
    elif how == 3:
        a.name = rng.choice(("axis", "axes", "perm", "value", "x", ""))
    else:
        _other_value(rng, a)
    return f"attribute {at} of {node.op_type}"


def _new_attribute(rng: random.Random, node: NodeProto) -> str:
    known = list(defs.get_schema(node.op_type).attributes) if defs.has(node.op_type) else []
    value: Any = rng.choice(
        (rng.choice(_INT64), rng.choice(_REALS), "SAME_UPPER", [1, 2], [rng.choice(_INT64)] * 4)
    )
    name = rng.choice((*known, "axis"))
    node.attribute.append(helper.make_attribute(name, value))
    return f"{node.op_type} has {name} = {value}"


def _other_value(rng: random.Random, a: AttributeProto) -> None:
    if a.type == AttributeProto.INT:
        a.i = rng.choice((*_INT64, a.i + 1 if a.i < 2**62 else 0, -a.i if a.i > -(2**62) else 0))
    elif a.type == AttributeProto.FLOAT:
        a.f = rng.choice(_REALS)
    elif a.type == AttributeProto.STRING:
        a.s = rng.choice((b"", b"linear", b"cubic", b"CRD", b"SAME_LOWER", b"reflect", b"\xff", a.s[:-1]))
    elif a.type == AttributeProto.INTS:
        _other_ints(rng, a.ints)
    elif a.type == AttributeProto.TENSOR:
        _other_tensor(rng, a.t)
    else:
        a.i = rng.choice(_INT64)


def _other_ints(rng: random.Random, ints: Any) -> None:
    how = rng.randrange(4)
    if how == 0 or not ints:
        ints.append(rng.choice(_INT64))
    elif how == 1:
        ints.pop()
    else:
        at = rng.randrange(len(ints))
        ints[at] = rng.choice((*_INT64, 0, 1, 2, 3, -ints[at] if ints[at] > -(2**62) else 0))


def wiring(rng: random.Random, proto: ModelProto) -> str:
    """A node reads or makes another value, one more, or one less."""
    node = _node(rng, proto)
    names = node.input if rng.randrange(4) else node.output
    how = rng.randrange(6)
    new = rng.choice((*_values(proto), *node.output, ""))
    if how == 0 or not names:
        names.append(new)
    elif how == 1:
        names.pop()
    else:
        names[rng.randrange(len(names))] = new
    return f"{node.op_type} {new!r}"


def nodes(rng: random.Random, proto: ModelProto) -> str:
    """A node is gone, doubled or elsewhere."""
    graph = rng.choice(list(graphs(proto)))
    if not graph.node:
        return operator(rng, proto)
    at = rng.randrange(len(graph.node))
    copy = NodeProto()
    copy.CopyFrom(graph.node[at])
    if rng.randrange(3):
        del graph.node[at]
    if rng.randrange(2):
        rest = list(graph.node)
        rest.insert(rng.randrange(len(rest) + 1), copy)
        del graph.node[:]
        graph.node.extend(rest)
    return f"node {at} {copy.op_type}"


def tensor(rng: random.Random, proto: ModelProto) -> str:
    """A weight has other sizes, another type, other values or too few of them."""
    tensors = [t for g in graphs(proto) for t in g.initializer] + [
        s.values for s in proto.graph.sparse_initializer
    ]
    if not tensors:
        return types(rng, proto)
    chosen = rng.choice(tensors)
    _other_tensor(rng, chosen)
    return f"weight {chosen.name}"


def _other_tensor(rng: random.Random, t: TensorProto) -> None:
    how = rng.randrange(9)
    if how == 0:
        t.data_type = rng.choice((*TensorProto.DataType.values(), 99))
    elif how == 1:
        t.raw_data = t.raw_data[: rng.randrange(len(t.raw_data) + 1)]
    elif how == 2:
        t.dims.append(rng.choice(_SIZES))
    elif how == 3 and t.dims:
        t.dims.pop()
    elif how == 4 and t.dims:
        t.dims[rng.randrange(len(t.dims))] = rng.choice(_SIZES)
    elif how == 5:
        _typed(rng, t)
    elif how == 6 and t.raw_data:
        width = rng.choice((1, 2, 4, 8))
        at = rng.randrange(len(t.raw_data))
        filler = (
            rng.choice(
                (b"\0", b"\xff", b"\x80", b"\x7f", b"\x7f\xf0", b"\0\0\x80\x7f", b"\0\0\xc0\x7f", b"\1")
            )
            * width
        )
        t.raw_data = (t.raw_data[:at] + filler)[: len(t.raw_data)] + t.raw_data[at + len(filler) :]
    elif how == 7:
        _outside(rng, t)
    else:
        del t.dims[:]


def _typed(rng: random.Random, t: TensorProto) -> None:
    t.raw_data = b""
    t.ClearField("raw_data")
    count = rng.randrange(5)
    rng.choice((t.int32_data, t.int64_data)).extend(rng.choice(_INT32) for _ in range(count))
    t.float_data.extend(rng.choice(_REALS) for _ in range(count))


def _outside(rng: random.Random, t: TensorProto) -> None:
    """Its values lie in another file."""
    t.data_location = TensorProto.EXTERNAL
    location = rng.choice(("/etc/hostname", "../x", "case.onnx", ".", "", "nul\0", "a" * 400, "/dev/zero"))
    for key, value in (
        ("location", location),
        ("offset", rng.choice(("0", "-1", "9" * 5000, "1e3", "x", "4096"))),
        ("length", rng.choice(("4", "0", "-1", "9" * 30, "x"))),
    ):
        if rng.randrange(4):
            entry = t.external_data.add()
            entry.key, entry.value = key, value


def types(rng: random.Random, proto: ModelProto) -> str:
    """An input, output or inner value says another type or shape."""
    values = [v for g in graphs(proto) for v in (*g.input, *g.output, *g.value_info)]
    if not values:
        return operator(rng, proto)
    value = rng.choice(values)
    _other_type(rng, value)
    return f"type of {value.name}"


def _other_type(rng: random.Random, value: ValueInfoProto) -> None:
    tensor_type = value.type.tensor_type
    dims = tensor_type.shape.dim
    how = rng.randrange(8)
    if how == 0:
        tensor_type.elem_type = rng.choice((*TensorProto.DataType.values(), 99))
    elif how == 1:
        tensor_type.ClearField("shape")
    elif how == 2:
        dims.extend(dims[:1] * 70)
    elif how == 3 and dims:
        dims.pop()
    elif how == 4 and dims:
        rng.choice(dims).dim_param = rng.choice(("N", "", "\x1b[2J"))
    elif how == 5:
        value.type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    elif dims:
        rng.choice(dims).dim_value = rng.choice(_SIZES)


def versions(rng: random.Random, proto: ModelProto) -> str:
    """Another opset, IR version or set of domains."""
    how = rng.randrange(5)
    if how < 2 and proto.opset_import:
        rng.choice(proto.opset_import).version = rng.choice((*range(28), *_INT64))
    elif how == 2:
        proto.opset_import.append(helper.make_opsetid(rng.choice(_DOMAINS), rng.choice((1, 7, 21, 99))))
    elif how == 3 and proto.opset_import:
        proto.opset_import.pop()
    else:
        proto.ir_version = rng.choice((*range(16), *_INT64))
    return f"{[(o.domain, o.version) for o in proto.opset_import]}, IR {proto.ir_version}"


def names(rng: random.Random, proto: ModelProto) -> str:
    """A value, node, weight or end is called something else, perhaps as another one is."""
    new = rng.choice((*_NAMES, *(t for t in TEXTS if t.isprintable()), *_values(proto)))
    graph = rng.choice(list(graphs(proto)))
    named = [*graph.input, *graph.output, *graph.initializer, *graph.node, *proto.functions, graph]
    chosen: Any = rng.choice(named)
    old = chosen.name
    chosen.name = new
    if rng.randrange(2):
        for node in graph.node:
            for ends in (node.input, node.output):
                ends[:] = [new if name == old else name for name in ends]
    return f"{old!r} → {new!r}"


def ends(rng: random.Random, proto: ModelProto) -> str:
    """Inputs and outputs of a graph are gone, doubled, swapped or others."""
    graph = rng.choice(list(graphs(proto)))
    lists = [graph.input, graph.output, graph.initializer]
    source, target = rng.choice(lists[:2]), rng.choice(lists[:2])
    if rng.randrange(4) == 0:
        target.append(helper.make_tensor_value_info(rng.choice(_values(proto)), 1, [1]))
    elif source and rng.randrange(2):
        target.append(rng.choice(source))
    elif source:
        del source[rng.randrange(len(source))]
    return "inputs and outputs"


def nesting(rng: random.Random, proto: ModelProto) -> str:
    """A node moves into both branches of an If, or into a function that may call itself or double itself."""
    if not proto.graph.node:
        return operator(rng, proto)
    at = rng.randrange(len(proto.graph.node))
    node = NodeProto()
    node.CopyFrom(proto.graph.node[at])
    if rng.randrange(2):
        proto.graph.node[at].CopyFrom(_branched(rng, proto, node))
        return f"If around {node.op_type}"
    calls = rng.choice((1, 2, 2, 30))
    _functions(rng, proto, node, calls)
    proto.graph.node[at].CopyFrom(helper.make_node("F0", list(node.input), list(node.output), domain="deep"))
    return f"{calls} functions around {node.op_type}"


def _branched(rng: random.Random, proto: ModelProto, node: NodeProto) -> NodeProto:
    made = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    inner = NodeProto()
    inner.CopyFrom(node)
    if rng.randrange(4) == 0 and inner.input and node.output:
        inner.input[0] = node.output[0]  # it reads what it makes
    branch = helper.make_graph([inner], "branch", [], made)
    name = f"cond{len(proto.graph.initializer)}"
    if rng.randrange(4):
        sizes = rng.choice(([], [], [1], [2]))
        values = [True] * (sum(sizes) or 1)
        proto.graph.initializer.append(helper.make_tensor(name, TensorProto.BOOL, sizes, values))
    outputs = [n for n in node.output if n]
    return helper.make_node("If", [name], outputs, then_branch=branch, else_branch=branch)


def _functions(rng: random.Random, proto: ModelProto, node: NodeProto, calls: int) -> None:
    opsets = [helper.make_opsetid("deep", 1), *(o for o in proto.opset_import if o.domain != "deep")]
    proto.opset_import.append(helper.make_opsetid("deep", 1))
    inputs, outputs = list(dict.fromkeys(n for n in node.input if n)), [n for n in node.output if n]
    for level in range(calls):
        last = level == calls - 1
        to = 0 if last and rng.randrange(6) == 0 else level + 1
        call = helper.make_node(f"F{to}", inputs, outputs, domain="deep")
        body = [node] if last and to else [call] * (1 if calls < 30 else 2)
        made = helper.make_function("deep", f"F{level}", inputs, outputs, body, opsets)
        proto.functions.append(made)


def sparse(rng: random.Random, proto: ModelProto) -> str:
    """A weight becomes sparse, with indices that may point anywhere."""
    dense = [t for t in proto.graph.initializer if t.data_type == TensorProto.FLOAT] or [
        TensorProto(name="x")
    ]
    chosen = rng.choice(dense)
    values = helper.make_tensor(chosen.name, TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [2], [rng.choice((0, 1)), rng.choice(_INT64)])
    if rng.randrange(4) == 0:
        indices = helper.make_tensor("i", TensorProto.INT64, [2, 2], [rng.choice(_INT64) for _ in range(4)])
    dims = list(chosen.dims) if rng.randrange(2) else [rng.choice(_SIZES)]
    graph = rng.choice(list(graphs(proto)))
    graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, dims))
    if chosen in proto.graph.initializer and rng.randrange(4):
        proto.graph.initializer.remove(chosen)
    return f"sparse {chosen.name}"


_BY_NAME: tuple[Mutation, ...] = (
    *(operator, attribute, wiring, nodes, tensor, types, versions, names, ends, nesting, sparse),
)
STRUCTURED: dict[str, Mutation] = {f.__name__: f for f in _BY_NAME}
DAMAGE = "noise"
KINDS = (*STRUCTURED, DAMAGE)
SHARES = (16, 16, 12, 8, 14, 10, 4, 6, 4, 4, 2, 4)


def mutated(rng: random.Random, data: bytes, kind: str) -> tuple[bytes, str]:
    """The model changed in one way, now and then in two or three of this kind."""
    if kind == DAMAGE:
        return _flipped(rng, data), "bytes flipped"
    try:
        proto = ModelProto.FromString(data)
    except DecodeError:
        return _flipped(rng, data), "bytes flipped"
    notes = [STRUCTURED[kind](rng, proto) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    return proto.SerializeToString(), "; ".join(notes)


def mutated_bytes(rng: random.Random, data: bytes) -> tuple[bytes, str]:
    """The model changed in any way."""
    (kind,) = rng.choices(KINDS, SHARES)
    changed, note = mutated(rng, data, kind)
    return changed, f"{kind}: {note}"


def _flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(changed)) if changed else -1
        how = rng.randrange(4)
        if at < 0 or how == 0:
            changed[at + 1 : at + 1] = bytes([rng.randrange(256)])
        elif how == 1:
            del changed[at : at + rng.randrange(1, 9)]
        else:
            changed[at] ^= rng.randrange(1, 256)
    return bytes(changed)
