"""uint8 and uint16 codes become int8 and int16: the same reals with the zero point moved by half the range.

    Q(x, s, zp: uint8) → DQ(…)      becomes      Q(x, s, zp − 128: int8) → DQ(…)

Operators that only move codes carry the new type along. Where unsigned codes enter or leave the model, or
meet an operator that computes with them, an exact DQ(scale 1) → Q(scale 1) pair converts. It belongs to the
user's Q or DQ of these codes, so that what the CPU does of it has a row in the placement.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from openbpu.arch.onnx_ops import CARRIERS
from openbpu.compiler.ir import Graph, Node, Origin, Rewriter
from openbpu.compiler.ir.qdq import DEQUANTIZE, QUANTIZE, SIGNED, is_dequantize, is_quantize

HALF = {"uint8": 128, "uint16": 32768}


def sign_codes(graph: Graph) -> Graph:
    """Return the graph without unsigned codes behind a QuantizeLinear or in front of a DequantizeLinear."""
    moved = _movable(graph)
    if not moved:
        return graph
    rw = Rewriter(graph)
    signed = {name: _declare(rw, name) for name in moved}
    users = _users(graph)
    for name in graph.inputs:
        if name in signed:
            _convert(rw, name, signed[name], users.get(name, ()), to_signed=True)
    for node in graph.nodes:
        _rewrite(rw, node, signed)
    for name in graph.outputs:
        if name in signed and name not in graph.inputs:  # an input is there as it came
            _convert(rw, signed[name], name, users.get(name, ()), to_signed=False)
    return rw.finish()


def _users(graph: Graph) -> dict[str, tuple[Origin, ...]]:
    """The user's DQ of codes that are given, and Q of codes that are made, by the name of the codes.

    What carries codes between the two belongs to both.
    """
    ties, users, makers = _ties(graph), dict[str, tuple[Origin, ...]](), graph.producers()
    for node in graph.nodes:
        maker = makers.get(node.inputs[0]) if is_quantize(node) else None
        origins = node.origins or (() if maker is None else maker.origins)
        for name in _group(end, ties) if (end := _codes_of(node)) else ():
            if (name in graph.inputs) == is_dequantize(node):
                users[name] = (*users.get(name, ()), *origins)
    return users


def _movable(graph: Graph) -> set[str]:
    """Unsigned codes that Q, DQ and the carriers between them exchange, and that nothing else makes."""
    makers, ties = graph.producers(), _ties(graph)
    movable: set[str] = set()
    seen: set[str] = set()
    computed = {_codes_of(n) for n in graph.nodes if not _constant_zero(graph, n)}
    for node in graph.nodes:
        end = _codes_of(node)
        if end in seen or not end or graph.values[end].dtype not in SIGNED:
            continue
        group = _group(end, ties)
        seen |= group
        if all(_gives_codes(makers.get(name)) for name in group) and not group & computed:
            movable |= group
    return movable


def _codes_of(node: Node) -> str:
    """The integers that a Q makes or a DQ reads; "" for other nodes."""
    return node.outputs[0] if is_quantize(node) else node.inputs[0] if is_dequantize(node) else ""


def _constant_zero(graph: Graph, node: Node) -> bool:
    """Whether a Q or DQ has no zero point, or a constant one: a computed one cannot be moved."""
    has_zero = bool(_codes_of(node)) and len(node.inputs) > 2 and bool(node.inputs[2])
    return not has_zero or graph.const(node.inputs[2]) is not None


def _carries(node: Node) -> bool:
    return node.op in CARRIERS and node.domain == ""


def _gives_codes(maker: Node | None) -> bool:
    """Whether what a node makes (None: a constant or an input of the model) can be codes."""
    return maker is None or is_quantize(maker) or _carries(maker)


def _ties(graph: Graph) -> dict[str, set[str]]:
    """Unsigned values that must change together with a value, because one carrier holds both."""
    ties: dict[str, set[str]] = {}
    for node in graph.nodes:
        if not _carries(node):
            continue
        data = node.inputs if node.op == "Concat" else node.inputs[:1]
        held = {n for n in (*data, *node.outputs) if n and graph.values[n].dtype in SIGNED}
        for name in held:
            ties.setdefault(name, set()).update(held)
    return ties


def _group(start: str, ties: dict[str, set[str]]) -> set[str]:
    group, todo = {start}, [start]
    while todo:
        more = ties.get(todo.pop(), set()) - group
        group |= more
        todo.extend(more)
    return group


def _declare(rw: Rewriter, name: str) -> str:
    value = rw.graph.values[name]
    if value.const is not None:
        half = HALF[value.dtype]
        shifted = (value.const.astype(np.int32) - half).astype(SIGNED[value.dtype])
        return rw.constant(f"{name}/signed", shifted)
    return rw.value(f"{name}/signed", value.shape, SIGNED[value.dtype])


def _shifted_zero(rw: Rewriter, node: Node, dtype: str) -> str:
    half, signed = HALF[dtype], SIGNED[dtype]
    zero = rw.graph.const(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    shape = rw.graph.values[node.inputs[1]].shape or ()
    base = np.zeros(shape, np.int64) if zero is None else zero.astype(np.int64)
    return rw.constant(f"{node.outputs[0]}/zero", (base - half).astype(signed))


def _rewrite(rw: Rewriter, node: Node, signed: dict[str, str]) -> None:
    values = rw.graph.values
    if is_quantize(node) and node.outputs[0] in signed:
        out = node.outputs[0]
        inputs = (*node.inputs[:2], _shifted_zero(rw, node, values[out].dtype))
        attrs = {k: v for k, v in node.attrs.items() if k != "output_dtype"}
        rw.nodes.append(replace(node, inputs=inputs, outputs=(signed[out],), attrs=attrs))
        _keep_for_others(rw, out, signed)
    elif is_dequantize(node) and node.inputs[0] in signed:
        code = node.inputs[0]
        inputs = (signed[code], node.inputs[1], _shifted_zero(rw, node, values[code].dtype))
        rw.nodes.append(replace(node, inputs=inputs))
    elif _carries(node) and node.outputs[0] in signed:
        renamed = tuple(signed.get(n, n) for n in node.inputs)
        rw.nodes.append(replace(node, inputs=renamed, outputs=tuple(signed.get(n, n) for n in node.outputs)))
        for out in node.outputs:
            _keep_for_others(rw, out, signed)
    else:
        rw.nodes.append(node)


def _keep_for_others(rw: Rewriter, name: str, signed: dict[str, str]) -> None:
    """Make the unsigned value too; it dies in `finish` when nothing reads it."""
    if name not in rw.graph.outputs:
        _convert(rw, signed[name], name, (), to_signed=False)


def _convert(rw: Rewriter, source: str, target: str, origins: tuple[Origin, ...], *, to_signed: bool) -> None:
    dtype = rw.values[source if to_signed else target].dtype
    half, signed = HALF[dtype], SIGNED[dtype]
    one = rw.constant("one", np.array(1.0, np.float32))
    low = rw.constant("zero", np.array(-half, signed))
    zero = rw.constant("zero", np.array(0, dtype))
    floats = rw.value(f"{target}/float", rw.values[source].shape, "float32")
    first, second = (zero, low) if to_signed else (low, zero)
    rw.add(DEQUANTIZE, (source, one, first), (floats,), origins if to_signed else ())
    rw.add(QUANTIZE, (floats, one, second), (target,), () if to_signed else origins)
