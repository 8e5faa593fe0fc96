"""The mark of a node that the user asked to leave float, and what becomes of it in a later `quantize`."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto

from openbpu.arch.marks import STAYS_FLOAT
from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.nodes import remake


def is_marked(node: NodeProto) -> bool:
    """Whether an earlier `quantize` was asked to leave the node float."""
    return any(entry.key == STAYS_FLOAT and entry.value == "true" for entry in node.metadata_props)


def marked(node: NodeProto, *, stays: bool) -> NodeProto:
    """Return `node` with the mark, which keeps the compiler from taking it for the BPU, or without it."""
    if is_marked(node) == stays:
        return node
    made = remake(node)
    kept = [entry for entry in node.metadata_props if entry.key != STAYS_FLOAT]
    del made.metadata_props[:]
    made.metadata_props.extend(kept)
    if stays:
        made.metadata_props.add(key=STAYS_FLOAT, value="true")
    return made


def marked_findings(nodes: Iterable[NodeProto], floats: Iterable[NodeProto]) -> tuple[Finding, ...]:
    """Return what there is to say of nodes that were left float before; `floats` are asked to be now."""
    asked = {node.output[0] for node in floats}
    found = [node for node in nodes if is_marked(node) and node.output[0] not in asked]
    if not found:
        return ()
    first, more = found[0].name or found[0].output[0], f" and {len(found) - 1} more" if len(found) > 1 else ""
    text = f"'{first}'{more} was left float before and is quantized now; --float-nodes keeps it float"
    return (Finding("float before", "", found[0].name, text),)
