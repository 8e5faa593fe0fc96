"""Why a Q or DQ is on the CPU: its codes have a type the BPU lacks, or its neighbours are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from openbpu.compiler.ir import Graph, Node
from openbpu.compiler.ir.qdq import DEQUANTIZE, QUANTIZE, SIGNED
from openbpu.compiler.lower.partition import Part
from openbpu.compiler.passes.refusals import Refusal

_MOVES = (QUANTIZE, DEQUANTIZE)


def turned_ends(source: Graph, parts: Sequence[Part]) -> dict[str, Refusal]:
    """Return why a Q or DQ whose unsigned codes are an end of the model is on the CPU, by its name.

    Its sign is turned there (`passes.signed`); the BPU has the signed types alone.
    """
    found: dict[str, Refusal] = {}
    for part in parts:
        for node in () if part.on_bpu else part.nodes:
            why = turned_end(source, node)
            found.update((o.name, why) for o in node.origins if why is not None)
    return found


def turned_end(source: Graph, node: Node) -> Refusal | None:
    """The same of one node of a CPU segment; None where it turns no sign."""
    name = _unsigned_end(source, node)
    return _turned(source, name) if name else None


def _unsigned_end(source: Graph, node: Node) -> str:
    """The unsigned codes at an end of the model that a Q or DQ makes or reads; "" for others."""
    if node.op not in _MOVES or node.is_bpu:
        return ""
    read, made = node.op == DEQUANTIZE and node.inputs[0], node.op == QUANTIZE and node.outputs[0]
    name = (read if read in source.inputs else made if made in source.outputs else "") or ""
    return name if name and source.values[name].dtype in SIGNED else ""


def _turned(source: Graph, name: str) -> Refusal:
    dtype = source.values[name].dtype
    signed = SIGNED[dtype]
    half = -int(np.iinfo(signed).min)
    end, does = ("input", "take") if name in source.inputs else ("output", "give out")
    to = "from" if end == "input" else "to"
    return Refusal(
        f"the CPU turns the codes of {end} '{name}' {to} {dtype}; the BPU has {signed}",
        f"let the model {does} {signed}: codes and zero point {half} lower are the same numbers",
    )


def between(
    source: Graph,
    node: Node,
    makers: Mapping[str, Node],
    readers: Mapping[str, Sequence[Node]],
    on_bpu: AbstractSet[str],
) -> Refusal:
    """Why a Q or DQ that nothing refused is on the CPU: its codes, or the operators beside it.

    `on_bpu` holds the names of the nodes that are not.
    """
    codes = node.outputs[0] if node.op == QUANTIZE else node.inputs[0]
    dtype = source.values[codes].dtype
    if node.op == DEQUANTIZE and codes in source.inputs and dtype == "int32":
        reason = f"its codes '{codes}' are an input of type {dtype} (allowed int8, int16)"
        return Refusal(reason, "let the model take int8 or int16 codes, or floats")
    beside = _beside(node, lambda n: [makers[i] for i in n.inputs[:1] if i in makers])
    beside += _beside(node, lambda n: [r for o in n.outputs for r in readers.get(o, ())])
    named = [f"{n.op} '{n.name}'" for n in beside if on_bpu.isdisjoint(o.name for o in n.origins)]
    fix = f"put {' and '.join(named[:2])} on the BPU" if named else "leave it to the CPU: it is alone there"
    return Refusal("it stands between CPU operators", fix)


def _beside(node: Node, step: Callable[[Node], Sequence[Node]]) -> list[Node]:
    """The first operators on one side of a Q or DQ, behind others of these."""
    found: list[Node] = []
    todo, seen = list(step(node)), {node.name}
    while todo:
        other = todo.pop(0)
        if other.name in seen:
            continue
        seen.add(other.name)
        if other.op in _MOVES:
            todo.extend(step(other))
        else:
            found.append(other)
    return found
