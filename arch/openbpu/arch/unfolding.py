"""How large an ONNX model gets when its functions replace their calls: counted before anything is unfolded.

A function that calls another one twice, and so on over 26 functions, is a file of 2 KB and 2²⁵ nodes. Both
readers of ONNX models ask here; the messages are looked at without onnx, which this package does not import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from openbpu.arch.errors import ModelError, must

MAX_NODES = 25_000
"""Nodes that calls of functions may add; the largest networks have some thousands."""

MAX_BYTES = 1 << 28
"""Bytes that calls of functions may add: constants in a function are copied with every call. Weights belong
to the graph and do not count."""

MAX_CHAIN = 100
"""Functions that may call one another in a row: as many as onnx unfolds."""

MAX_NESTING = 32
"""Graphs within graphs (bodies of If, Loop, Scan): protobuf reads no more from a file."""

PASSED_OVER = {"Hardmax": 13, "Resize": 11, "Upsample": 10, "GroupNormalization": 21}
"""The opset from which an operator means something else, or is gone, and onnx's version converter leaves it:
in a function of an older opset than its model it would change what it computes."""

_FIX = "export the model without local functions"
Name = tuple[str, str, str]
"""Domain, name and overload of a function."""


@dataclass(slots=True)
class _Call:
    """How often a body calls a function, from how deep a graph, and bytes of the arguments it hands over."""

    times: int = 0
    depth: int = 0
    nbytes: int = 0


@dataclass(slots=True)
class _Body:
    """A function, or the model's own graph, with all graphs inside it.

    `references` counts the attributes that are taken from the call.
    """

    nodes: int = 0
    nbytes: int = 0
    nesting: int = 0
    references: int = 0
    calls: dict[Name, _Call] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Whole:
    """A body with everything it calls in its place; `chain`: the most functions that call one another."""

    nodes: int
    nbytes: int
    nesting: int
    references: int
    chain: int


def check_nesting(graph: Any) -> None:
    """Raise ModelError for a GraphProto of more graphs within graphs than `MAX_NESTING`."""
    _body(graph.node, frozenset())


def check_functions(model: Any) -> None:
    """Raise ModelError, naming the function, unless the calls of a ModelProto can be unfolded.

    Refused are a function that calls itself, also over others, and one that unfolds to more than the limits
    above. Time: one look at every node.
    """
    by_name = {(f.domain, f.name, f.overload): f for f in model.functions}
    bodies = {name: _body(f.node, by_name.keys()) for name, f in by_name.items()}
    for name, function in by_name.items():
        bodies[name].nbytes = function.ByteSize()
    graph = _body(model.graph.node, by_name.keys())
    graph.nodes = 0  # these are there already
    done: dict[Name, _Whole] = {}
    for name in _callees_first(graph, bodies):
        done[name] = _whole(bodies[name], done)
        _check(f"function {_spoken(name)}", done[name])
    _check("model", _whole(graph, done))


def _body(nodes: Iterable[Any], functions: Iterable[Name]) -> _Body:
    body, names = _Body(), frozenset(functions)
    level = [nodes]
    while level:
        inner: list[Any] = []
        for node in (node for graph in level for node in graph):
            body.nodes += 1
            name = (node.domain, node.op_type, getattr(node, "overload", ""))
            if name in names:
                call = body.calls.setdefault(name, _Call())
                call.times, call.depth = call.times + 1, body.nesting
                call.nbytes += node.ByteSize()
            for attribute in node.attribute:
                body.references += bool(attribute.ref_attr_name)
                inner += [graph.node for graph in _graphs(attribute)]
        level = inner
        body.nesting += bool(level)
        if body.nesting > MAX_NESTING:
            found = f"{body.nesting} or more"
            raise ModelError(must("model", "graphs within graphs", f"at most {MAX_NESTING}", found, _FIX))
    return body


def _graphs(attribute: Any) -> Iterator[Any]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _callees_first(graph: _Body, bodies: Mapping[Name, _Body]) -> Iterator[Name]:
    """Yield every function that is called, behind those it calls; raises ModelError for a cycle."""
    seen: set[Name] = set()
    for first in graph.calls:
        path = [] if first in seen else [(first, iter(bodies[first].calls))]
        while path:
            name, callees = path[-1]
            callee = next(callees, None)
            if callee is None:
                seen.add(path.pop()[0])
                yield name
            elif callee not in seen:
                path.append((callee, iter(bodies[callee].calls)))
            if len(path) > MAX_CHAIN:  # a cycle soon gets there too
                _refuse_chain([name for name, _ in path])


def _refuse_chain(path: list[Name]) -> None:
    where, repeated = f"function {_spoken(path[0])}", next((n for n in path if path.count(n) > 1), None)
    if repeated is None:
        raise ModelError(must(where, "the functions it calls in a row", f"at most {MAX_CHAIN}", "more", _FIX))
    through = path[path.index(repeated) + 1]
    where, found = f"function {_spoken(repeated)}", f"itself, through {_spoken(through)}"
    raise ModelError(must(where, "what it calls", "other functions", found, _FIX))


def _whole(body: _Body, done: Mapping[Name, _Whole]) -> _Whole:
    calls = [(call, done[name]) for name, call in body.calls.items()]
    return _Whole(
        body.nodes + sum(call.times * (whole.nodes - 1) for call, whole in calls),
        body.nbytes
        + sum(call.times * whole.nbytes + call.nbytes * whole.references for call, whole in calls),
        max([body.nesting, *(call.depth + whole.nesting for call, whole in calls)]),
        body.references + sum(call.times * whole.references for call, whole in calls),
        max([0, *(whole.chain + 1 for _, whole in calls)]),
    )


def _check(where: str, whole: _Whole) -> None:
    for what, most, found in (
        ("the functions it calls in a row", MAX_CHAIN, whole.chain),
        ("the nodes its functions unfold to", MAX_NODES, whole.nodes),
        ("the bytes its functions unfold to", MAX_BYTES, whole.nbytes),
        ("graphs within graphs", MAX_NESTING, whole.nesting),
    ):
        if found > most:
            raise ModelError(must(where, what, f"at most {most:,}", f"{found:,}", _FIX))


def _spoken(name: Name) -> str:
    domain, function, overload = name
    return f"'{domain}.{function}" + (f":{overload}'" if overload else "'")
