"""Building the next graph from the last one: fresh names, new values and nodes, one topological order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from openbpu.compiler.ir.dialect import bpu_node
from openbpu.compiler.ir.graph import Array, Graph, Node, Origin, Quant, Value


class Rewriter:
    """Collects the nodes and values of a new graph; `finish` orders the nodes and drops what nothing needs.

    Only a pass holds one, and only while it runs: graphs stay immutable.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[str, Value] = dict(graph.values)
        self.nodes: list[Node] = []
        self._counter: dict[str, int] = {}

    def fresh(self, stem: str) -> str:
        """Return a value name that is not in use, made from `stem`."""
        name = stem
        while name in self.values:
            count = self._counter.get(stem, 0) + 1
            self._counter[stem] = count
            name = f"{stem}:{count}"
        return name

    def value(self, stem: str, shape: Iterable[int] | None, dtype: str, quant: Quant | None = None) -> str:
        """Declare a computed value (shape None: it is not static) and return its name."""
        name = self.fresh(stem)
        known = None if shape is None else tuple(int(d) for d in shape)
        self.values[name] = Value(name, known, dtype, quant=quant)
        return name

    def constant(self, stem: str, data: Array, quant: Quant | None = None) -> str:
        """Declare a constant and return its name."""
        name = self.fresh(stem)
        array = np.ascontiguousarray(data).reshape(np.shape(data))
        self.values[name] = Value(name, array.shape, str(array.dtype), array, quant=quant)
        return name

    def add(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        origins: tuple[Origin, ...] = (),
        name: str = "",
        **attrs: Any,
    ) -> Node:
        """Append a node of ONNX; returns it."""
        node = Node(op, tuple(inputs), tuple(outputs), attrs, name or f"{op}:{outputs[0]}", "", origins)
        self.nodes.append(node)
        return node

    def bpu(
        self, op: str, output: str, origins: tuple[Origin, ...] = (), name: str = "", **parts: Any
    ) -> Node:
        """Append a node of the BPU, made of operands and attributes by name; returns it.

        Raises TypeError for what is not of its form.
        """
        node = bpu_node(op, output, origins, name or f"{op}:{output}", **parts)
        self.nodes.append(node)
        return node

    def set_quant(self, name: str, quant: Quant) -> None:
        """Note what the integers of `name` mean."""
        self.values[name] = replace(self.values[name], quant=quant)

    def set_value(self, value: Value) -> None:
        """Replace what is known about a value."""
        self.values[value.name] = value

    def finish(self, outputs: tuple[str, ...] | None = None) -> Graph:
        """Return the new graph: nodes in topological order (stable), dead nodes and values dropped.

        Raises ValueError for a cycle.
        """
        graph = replace(self.graph, outputs=self.graph.outputs if outputs is None else outputs)
        alive = _alive(self.nodes, graph.outputs)
        return graph.with_nodes(_ordered(alive), self.values.values())


def _alive(nodes: list[Node], outputs: Iterable[str]) -> list[Node]:
    producers = {o: n for n in nodes for o in n.outputs if o}
    keep: set[int] = set()
    stack = [producers[o] for o in outputs if o in producers]
    while stack:
        node = stack.pop()
        if id(node) in keep:
            continue
        keep.add(id(node))
        stack.extend(producers[i] for i in node.reads if i in producers)
    return [n for n in nodes if id(n) in keep]


def _ordered(nodes: list[Node]) -> list[Node]:
    producers = {o: i for i, n in enumerate(nodes) for o in n.outputs if o}
    order: list[Node] = []
    done, entered = [False] * len(nodes), [False] * len(nodes)
    for start in range(len(nodes)):
        stack = [start]
        while stack:
            index = stack[-1]
            if done[index]:
                stack.pop()
                continue
            missing = [j for i in nodes[index].reads if (j := producers.get(i)) is not None and not done[j]]
            if missing and entered[index]:
                raise ValueError(f"node '{nodes[index].name}' depends on itself")
            entered[index] = True
            if missing:
                stack.extend(reversed(missing))
                continue
            done[index] = True
            order.append(nodes[index])
            stack.pop()
    return order
