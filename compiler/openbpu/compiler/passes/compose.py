"""Chains of look-ups become one: what depends on one int8 tensor alone is a single 256-entry table.

y = mul(x, sigmoid_table(x))      becomes      y = table(x)        with every rounding of the chain kept
table(Conv(…))                    becomes      Conv(…) with the table behind its requantization
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import must
from openbpu.compiler.ir import Graph, Node, Origin, Rewriter
from openbpu.compiler.ir.dialect import form_of, operand, with_operand
from openbpu.compiler.ir.verify import ensures

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Unary:
    """A value as a function of the codes of `root` (None: a constant scalar); `table` holds its codes."""

    root: str | None
    table: Int64


def compose_tables(graph: Graph) -> Graph:
    """Replace every element-wise node that depends on one int8 tensor by a look-up of that tensor."""
    rw = Rewriter(graph)
    known: dict[str, _Unary] = {}
    composed: dict[str, tuple[Node, str]] = {}  # by output: the last node of a chain, and what it starts from
    for node in graph.nodes:
        unary = _unary(graph, node, known) if node.is_bpu else None
        if unary is None or unary.root is None:
            rw.nodes.append(node)
            continue
        out = node.outputs[0]
        known[out] = unary
        if node.op == "Lut" and node.inputs[0] == unary.root:
            rw.nodes.append(node)
            continue
        table = rw.constant(f"{out}/table", unary.table.astype(graph.values[out].dtype))
        rw.bpu("Lut", out, node.origins, node.name, x=unary.root, table=table)
        composed[out] = (node, unary.root)
    return _named(rw.finish(), graph, composed)


def _named(made: Graph, graph: Graph, composed: Mapping[str, tuple[Node, str]]) -> Graph:
    """Give every look-up that is left the origins of its whole chain; those within chains are gone by now."""
    producers, nodes = graph.producers(), []
    for node in made.nodes:
        chain = composed.get(node.outputs[0])
        if chain is None:
            nodes.append(node)
            continue
        origins = tuple(dict.fromkeys([*_origins(producers, *chain), *node.origins]))
        nodes.append(replace(node, origins=origins))
    return replace(made, nodes=tuple(nodes))


def _origins(producers: dict[str, Node], node: Node, root: str) -> list[Origin]:
    """Origins of the chain between `root` and `node`."""
    stack = [i for i in node.inputs if i]
    found: list[Origin] = []
    seen = {root}
    while stack:
        name = stack.pop()
        maker = producers.get(name)
        if name in seen or maker is None:
            continue
        seen.add(name)
        found.extend(maker.origins)
        stack.extend(i for i in maker.inputs if i)
    return found


def _unary(graph: Graph, node: Node, known: dict[str, _Unary]) -> _Unary | None:
    if node.op in ("Lut", "Rescale"):
        x = _operand(graph, node.inputs[0], known)
        if x is None or x.root is None:
            return None
        if node.op == "Lut":
            table = graph.const(operand(node, "table"))
            return None if table is None else _Unary(x.root, table.astype(np.int64)[x.table + 128])
        a = node.attrs
        total = (x.table - a["x_zero"]) * a["mult"] + a["offset"]
        return _Unary(x.root, numerics.requantize(total, a["shift"], a["zero"], a["lo"], a["hi"]))
    if node.op == "Binary" and not operand(node, "table"):
        return _binary(graph, node, known)
    return None


def _binary(graph: Graph, node: Node, known: dict[str, _Unary]) -> _Unary | None:
    a, b = (_operand(graph, n, known) for n in (operand(node, "a"), operand(node, "b")))
    shape = graph.values[node.outputs[0]].shape
    if a is None or b is None or (a.root is None and b.root is None):
        return None
    if a.root is not None and b.root is not None and a.root != b.root:
        return None
    if any(u.root is not None and graph.values[u.root].shape != shape for u in (a, b)):
        return None
    at = node.attrs
    x, y = a.table - at["a_zero"], b.table - at["b_zero"]
    total = _total(at["fn"], x, y, at["mult_a"], at["mult_b"]) + at["offset"]
    codes = numerics.requantize(np.broadcast_to(total, (256,)), at["shift"], at["zero"], at["lo"], at["hi"])
    return _Unary(a.root or b.root, codes)


def _total(fn: str, x: Int64, y: Int64, mult_a: int, mult_b: int) -> Int64:
    if fn == "add":
        return x * mult_a + y * mult_b
    if fn == "mul":
        return x * y * mult_a
    if fn == "prelu":
        return np.where(x >= 0, x * mult_a, x * y * mult_b)
    pick = np.maximum if fn == "max" else np.minimum
    return pick(x * mult_a, y * mult_b)


def _operand(graph: Graph, name: str, known: dict[str, _Unary]) -> _Unary | None:
    if name in known:
        return known[name]
    value = graph.values[name]
    if value.const is not None:
        return _Unary(None, value.const.astype(np.int64).reshape(-1)) if value.const.size == 1 else None
    return _Unary(name, numerics.codes(DType.INT8)) if value.dtype == "int8" else None


def takes_table(node: Node) -> bool:
    """Whether a node can look its result up, and does not yet."""
    if not node.is_bpu or not form_of(node).may_lack("table") or node.attrs.get("raw", False):
        return False
    return not operand(node, "table")


def without_loose_tables(graph: Graph) -> Iterator[str]:
    """No look-up stands behind an operator that could do it."""
    for maker, lut in _loose_tables(graph):
        yield must(
            f"node '{lut.name}'", "a look-up", f"part of '{maker.name}' before it", "a node of its own"
        )


@ensures(without_loose_tables)
def fuse_tables(graph: Graph) -> Graph:
    """Let the operator in front of a look-up do it, where nothing else reads the int8 result in between."""
    fused: dict[int, Node] = {}
    dead: set[int] = set()
    for maker, lut in _loose_tables(graph):
        origins = tuple(dict.fromkeys([*maker.origins, *lut.origins]))
        with_table = with_operand(maker, "table", operand(lut, "table"))
        fused[id(maker)] = replace(with_table, outputs=lut.outputs, origins=origins)
        dead.add(id(lut))
    if not fused:
        return graph
    rw = Rewriter(graph)
    rw.nodes = [fused.get(id(n), n) for n in graph.nodes if id(n) not in dead]
    return rw.finish()


def _loose_tables(graph: Graph) -> Iterator[tuple[Node, Node]]:
    """Operators that could look their result up, and the only reader of it, a look-up."""
    consumers, producers = graph.consumers(), graph.producers()
    for lut in (n for n in graph.nodes if n.is_bpu and n.op == "Lut"):
        name = operand(lut, "x")
        maker = producers.get(name)
        if (
            maker is not None
            and takes_table(maker)
            and len(consumers[name]) == 1
            and name not in graph.outputs
        ):
            yield maker, lut
