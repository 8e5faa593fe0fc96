"""Channels last at the ends: images come and results go as the BPU keeps them, without a transpose."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from openbpu.compiler.ir import Graph, Node, Value
from openbpu.compiler.ir.dialect import bpu_node

_LAST = (0, 2, 3, 1)
_FIRST = (0, 3, 1, 2)
_CODES = frozenset({"int8", "int16", "int32"})


def channels_last_ends(graph: Graph, settle: Callable[[Graph], Graph]) -> tuple[Graph, frozenset[str]]:
    """Return the settled graph, its 4-D integer ends N×H×W×C where it saves a transpose, and their names.

    Every such end is turned on trial; where the new transpose meets none to cancel with, it stays N×C×H×W.
    """
    names = _turnable(graph)
    done = settle(_turned(graph, names))
    stuck = _still_turned(done, names)
    return (settle(_turned(graph, names - stuck)) if stuck else done), names - stuck


def _turnable(graph: Graph) -> frozenset[str]:
    consumers, producers = graph.consumers(), graph.producers()

    def suits(name: str, nodes: Sequence[Node]) -> bool:
        value = graph.values[name]
        image = value.dtype in _CODES and value.shape is not None and len(value.shape) == len(_LAST)
        return image and bool(nodes) and all(n.is_bpu for n in nodes)

    readers = {name: consumers.get(name, []) for name in graph.inputs if name not in graph.outputs}
    makers = {name: [producers[name]] for name in graph.outputs if name in producers}
    unread = {name: nodes for name, nodes in makers.items() if not consumers.get(name)}
    return frozenset(name for name, nodes in {**readers, **unread}.items() if suits(name, nodes))


def _turned(graph: Graph, names: Collection[str]) -> Graph:
    """Turn ends to channels last, and back again behind an input or in front of an output."""
    inner = {name: f"{name}/channels_first" for name in names}
    nodes = [
        replace(
            n,
            inputs=tuple(inner.get(i, i) for i in n.inputs),
            outputs=tuple(inner.get(o, o) for o in n.outputs),
        )
        for n in graph.nodes
    ]
    values = dict(graph.values)
    before, after = [], []
    for name in sorted(names):
        values[inner[name]] = replace(graph.values[name], name=inner[name])
        values[name] = _last(graph.values[name])
        if name in graph.inputs:
            before.append(bpu_node("Transpose", inner[name], x=name, perm=_FIRST))
        else:
            after.append(bpu_node("Transpose", name, x=inner[name], perm=_LAST))
    return replace(graph, values=values).with_nodes([*before, *nodes, *after])


def _last(value: Value) -> Value:
    """The value with its axes as N×H×W×C."""
    shape = value.shape or ()
    quant = value.quant
    if quant is not None and len(quant.scale) > 1:
        quant = replace(quant, axis=_LAST.index(quant.axis % len(_LAST)))
    return replace(value, shape=tuple(shape[i] for i in _LAST), quant=quant)


def _still_turned(graph: Graph, names: Collection[str]) -> frozenset[str]:
    consumers, producers = graph.consumers(), graph.producers()
    return frozenset(
        name
        for name in names
        if any(
            n.is_bpu and n.op == "Transpose"
            for n in (*consumers.get(name, []), *([producers[name]] if name in producers else []))
        )
    )
