"""Operators that only move elements change sides: they move codes, not floats, and Q and DQ meet.

sink_dequantize:   DQ → Reshape → …           becomes      Reshape(codes) → DQ → …
hoist_quantize:    … → Conv → Reshape → Q     becomes      … → Conv → Q → Reshape(codes)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from openbpu.arch.errors import must
from openbpu.arch.onnx_ops import VIEWS, only_moves
from openbpu.compiler.ir import Array, Graph, Node, Rewriter
from openbpu.compiler.ir.qdq import DEQUANTIZE, Scaling, is_dequantize, is_quantize, scaling
from openbpu.compiler.ir.verify import ensures


def is_move(graph: Graph, node: Node) -> bool:
    """Whether `node` moves elements of its input 0 without looking at them."""
    if node.domain != "" or not only_moves(node.op, _text(node.attrs.get("mode", ""))):
        return False  # others may have no input at all, or leave out the first
    if not _is_static(graph, (node.inputs[0], node.outputs[0])):
        return False
    return all(not n or graph.const(n) is not None for n in node.inputs[1:])


def _is_static(graph: Graph, names: Iterable[str]) -> bool:
    return all(graph.values[name].shape is not None for name in names)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _moved_constant(graph: Graph, node: Node, data: Array) -> Array | None:
    shape = graph.values[node.outputs[0]].shape
    if node.op == "Transpose":
        return np.transpose(data, node.attrs.get("perm"))
    if node.op in VIEWS:
        return data.reshape(shape)
    return None


# --- DQ down ------------------------------------------------------------------------------------------


def sink_dequantize(graph: Graph) -> Graph:
    """Let moves, and max pools, work on codes: DQ → move becomes move → DQ wherever the DQ is per tensor."""
    rw = Rewriter(graph)
    dq_of: dict[str, Node] = {}
    for node in graph.nodes:
        if is_dequantize(node):
            dq_of[node.outputs[0]] = node
            rw.nodes.append(node)
        elif not _sink(rw, node, dq_of):
            rw.nodes.append(node)
    return rw.finish()


def _sink(rw: Rewriter, node: Node, dq_of: dict[str, Node]) -> bool:
    graph = rw.graph
    sources = [dq_of.get(n) for n in (node.inputs if node.op == "Concat" else node.inputs[:1])]
    if not sources or node.domain != "" or any(s is None for s in sources):
        return False
    dqs = [s for s in sources if s is not None]
    scalings = [scaling(rw_view(rw), d) for d in dqs]
    first = scalings[0]
    if first is None or any(s is None or not s.same(first) for s in scalings):
        return False
    if rw.values[dqs[0].inputs[0]].const is not None and node.op != "Concat":
        return _sink_constant(rw, node, dqs[0], first, dq_of)
    axis = -1 if first.per_tensor else _moved_axis(rw, node, first)
    if axis is None or first.dtype not in ("int8", "int16", "int32"):
        return False
    codes = _code_inputs(rw, node, dqs, first)
    if codes is None or not _is_static(graph, (*node.inputs[:1], *filter(None, node.outputs))):
        return False
    outs = tuple(rw.value(f"{o}/q", graph.values[o].shape, first.dtype) if o else "" for o in node.outputs)
    rw.nodes.append(replace(node, inputs=codes, outputs=outs))
    kept = [None] * len(outs) if first.per_tensor else _kept(rw, node, first.axis)
    for out, code, part in zip(node.outputs, outs, kept, strict=True):
        if out:
            attrs: dict[str, Any] = {} if first.per_tensor else {"axis": axis}
            terms = [_part(rw, name, part) for name in dqs[0].inputs[1:]]
            dq_of[out] = rw.add(DEQUANTIZE, (code, *terms), (out,), **attrs)
    return True


def _is_plain_slice(rw: Rewriter, node: Node) -> bool:
    """Whether the bounds of a Slice are constants, and its steps forward."""
    found = [rw.values[n].const for n in node.inputs[1:] if n]
    steps = rw.values[node.inputs[4]].const if len(node.inputs) > 4 and node.inputs[4] else None
    return all(v is not None for v in found) and (steps is None or bool((steps > 0).all()))


def _kept(rw: Rewriter, node: Node, axis: int) -> list[slice | None]:
    """Which entries of an axis every output of a move has; None: all of them."""
    if node.op == "Slice":
        return [_slices(rw, node).get(axis)]
    if node.op != "Split" or _split_axis(rw, node) != axis:
        return [None] * len(node.outputs)
    ends = np.cumsum([(rw.values[o].shape or ())[axis] for o in node.outputs]).tolist()
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _part(rw: Rewriter, name: str, part: slice | None) -> str:
    data = rw.values[name].const if name and part is not None else None
    return name if data is None or part is None else rw.constant(f"{name}/part", data[part])


def _slices(rw: Rewriter, node: Node) -> dict[int, slice]:
    """The slice of every axis that a Slice with constant bounds cuts."""
    found = [rw.values[n].const if n else None for n in node.inputs[1:]]
    starts, ends = (np.asarray(v).reshape(-1).tolist() for v in found[:2])
    rank = len(rw.values[node.inputs[0]].shape or ())
    axes = list(range(len(starts))) if len(found) < 3 or found[2] is None else found[2].reshape(-1).tolist()
    steps = [1] * len(starts) if len(found) < 4 or found[3] is None else found[3].reshape(-1).tolist()
    return {a % rank: slice(*cut) for a, *cut in zip(axes, starts, ends, steps, strict=True)}


def _split_axis(rw: Rewriter, node: Node) -> int:
    return int(node.attrs.get("axis", 0)) % len(rw.values[node.inputs[0]].shape or (1,))


def _moved_axis(rw: Rewriter, node: Node, scale: Scaling) -> int | None:
    """Where a move takes the axis of an accumulator's scales; None if it splits or merges that axis."""
    before, after = rw.values[node.inputs[0]].shape, rw.values[node.outputs[0]].shape
    if scale.dtype != "int32" or before is None or after is None:
        return None
    if node.op == "Transpose":
        perm = node.attrs.get("perm") or tuple(reversed(range(len(before))))
        return list(perm).index(scale.axis)
    if (node.op == "Split" and all(node.outputs)) or (node.op == "Slice" and _is_plain_slice(rw, node)):
        return scale.axis
    if node.op not in VIEWS:
        return None
    front, size = int(np.prod(before[: scale.axis])), before[scale.axis]
    found = [a for a, n in enumerate(after) if n == size and int(np.prod(after[:a])) == front]
    return found[-1] if found else None


def _code_inputs(rw: Rewriter, node: Node, dqs: list[Node], scale: Scaling) -> tuple[str, ...] | None:
    """The inputs of `node` once it works on codes; None when it cannot."""
    if node.op == "Concat":
        return tuple(d.inputs[0] for d in dqs)
    rest = node.inputs[1:]
    if node.op == "MaxPool":
        whole = len([o for o in node.outputs if o]) == 1
        # Nobody pools int32: neither the BPU nor ONNX Runtime.
        return (dqs[0].inputs[0],) if whole and scale.dtype != "int32" else None
    if not is_move(rw.graph, node):
        return None
    if node.op == "Pad":
        filled = _pad_code(rw, node, scale)
        return None if filled is None else (dqs[0].inputs[0], rest[0], filled, *rest[2:])
    return (dqs[0].inputs[0], *rest)


def _pad_code(rw: Rewriter, node: Node, scale: Scaling) -> str | None:
    given = node.inputs[2] if len(node.inputs) > 2 else ""
    real = float(np.asarray(rw.graph.const(given)).reshape(())) if given else 0.0
    if not np.isfinite(real) or scale.offset is not None:
        return None
    code = np.rint(real / scale.s) + scale.z
    info = np.iinfo(scale.dtype)
    if abs((code - scale.z) * scale.s - real) > 1e-6 * scale.s or not info.min <= code <= info.max:
        return None
    return rw.constant(f"{node.outputs[0]}/pad", np.array(code, scale.dtype))


def _sink_constant(rw: Rewriter, node: Node, dq: Node, scale: Scaling, dq_of: dict[str, Node]) -> bool:
    data = rw.values[dq.inputs[0]].const
    if data is None or not is_move(rw.graph, node) or len(node.outputs) != 1:
        return False
    attrs = dict(dq.attrs)
    if not scale.per_tensor:
        if node.op != "Transpose":
            return False
        perm = node.attrs.get("perm") or tuple(reversed(range(data.ndim)))
        attrs["axis"] = list(perm).index(scale.axis)
    moved = _moved_constant(rw.graph, node, data)
    if moved is None:
        return False
    code = rw.constant(f"{node.outputs[0]}/q", moved)
    dq_of[node.outputs[0]] = rw.add(DEQUANTIZE, (code, *dq.inputs[1:]), node.outputs, **attrs)
    return True


def rw_view(rw: Rewriter) -> Graph:
    """Return the graph under construction as far as values go: what `scaling` needs to read a new DQ node."""
    return replace(rw.graph, values=rw.values)


# --- Q up ---------------------------------------------------------------------------------------------


def hoist_quantize(graph: Graph) -> Graph:
    """Quantize in front of a move instead of behind it, where the Quantize is the move's only reader."""
    rw = Rewriter(graph)
    consumers, producers = graph.consumers(), graph.producers()
    dropped: set[int] = set()
    for node in reversed(graph.nodes):
        if id(node) in dropped:
            continue
        if not is_quantize(node):
            rw.nodes.append(node)
            continue
        _hoist(rw, node, producers, consumers, dropped)
    rw.nodes.reverse()
    return rw.finish()


def _hoist(
    rw: Rewriter,
    quantize: Node,
    producers: dict[str, Node],
    consumers: dict[str, list[Node]],
    dropped: set[int],
) -> None:
    pending = [quantize]
    while pending:
        q = pending.pop()
        move = producers.get(q.inputs[0])
        scale = scaling(rw_view(rw), q)
        if move is None or scale is None or not _can_hoist(rw.graph, q, move, scale, consumers):
            rw.nodes.append(q)
            continue
        dropped.add(id(move))
        lead = move.inputs if move.op == "Concat" else move.inputs[:1]
        codes = [rw.value(f"{n}/q", rw.graph.values[n].shape, scale.dtype) for n in lead]
        rest = () if move.op == "Concat" else move.inputs[1:]
        if move.op == "Pad":
            code = _pad_code(rw, move, scale)
            rest = (rest[0], code or "", *rest[2:])
        rw.nodes.append(replace(move, inputs=(*codes, *rest), outputs=q.outputs))
        for name, code in zip(lead, codes, strict=True):
            pending.append(replace(q, inputs=(name, *q.inputs[1:]), outputs=(code,), name=f"{q.name}/{name}"))


def _can_hoist(graph: Graph, q: Node, move: Node, scale: Scaling, consumers: dict[str, list[Node]]) -> bool:
    if len(consumers.get(q.inputs[0], [])) != 1 or q.inputs[0] in graph.outputs or len(move.outputs) != 1:
        return False
    if not scale.per_tensor or scale.dtype not in ("int8", "int16"):
        return False
    if move.op == "Concat" and move.domain == "":
        return any(graph.const(n) is None for n in move.inputs) and _is_static(graph, move.inputs)
    if move.op == "Pad":
        value = graph.const(move.inputs[2]) if len(move.inputs) > 2 and move.inputs[2] else np.zeros(())
        return is_move(graph, move) and value is not None and float(np.reshape(value, ())) == 0.0
    return is_move(graph, move)


# --- Q meets DQ ---------------------------------------------------------------------------------------


def without_pairs(graph: Graph) -> Iterator[str]:
    """No Quantize undoes a Dequantize."""
    producers = graph.producers()
    for node in graph.nodes:
        dq = producers.get(node.inputs[0]) if is_quantize(node) else None
        if dq is None or not is_dequantize(dq) or node.outputs[0] in graph.outputs:
            continue
        if _same(graph, node, dq):
            yield must(
                f"node '{node.name}'", "a Quantize", "of another scale", f"that of '{dq.name}' before it"
            )


@ensures(without_pairs)
def cancel_pairs(graph: Graph) -> Graph:
    """Drop DQ → Q where both mean the same: Q(DQ(c)) is c."""
    producers = graph.producers()
    rw = Rewriter(graph)
    same: dict[str, str] = {}
    for node in graph.nodes:
        dq = producers.get(node.inputs[0]) if is_quantize(node) else None
        if (
            dq is not None
            and is_dequantize(dq)
            and _same(graph, node, dq)
            and node.outputs[0] not in graph.outputs
        ):
            same[node.outputs[0]] = same.get(dq.inputs[0], dq.inputs[0])
        else:
            rw.nodes.append(replace(node, inputs=tuple(same.get(n, n) for n in node.inputs)))
    return rw.finish() if same else graph


def _same(graph: Graph, q: Node, dq: Node) -> bool:
    a, b = scaling(graph, q), scaling(graph, dq)
    return a is not None and b is not None and a.per_tensor and a.same(b)
