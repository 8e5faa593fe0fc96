"""What is known of every node, for viewers of models: node data of Model Explorer, metadata for Netron.

A file of node data ("custom node data" of https://github.com/google-ai-edge/model-explorer) maps a graph to
results by node. A viewer matches a key with a node's id or with a tensor that it makes, so both are given,
and the form "[value] TENSOR" that ONNX's adapter has for the latter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from openbpu.arch.program import Placement
from openbpu.report.placement import cost_text, subgraphs
from openbpu.report.text import DASH, in_time

if TYPE_CHECKING:
    from onnx import ModelProto

_COLOURS = {"BPU": "#b7e1cd", "CPU": "#f4c7a1"}
_GRADIENT = ({"stop": 0, "bgColor": "#ffffff"}, {"stop": 1, "bgColor": "#e06666"})
_PREFIX = "openbpu."
Json = dict[str, Any]


def placement_data(model: ModelProto, placement: Sequence[Placement]) -> Json:
    """Return node data: BPU or CPU, coloured."""
    values = {row.node: {"value": row.on, "bgColor": _COLOURS[row.on]} for row in placement}
    return {_graph(model): {"results": _keyed(model, values)}}


def number_data(model: ModelProto, numbers: Mapping[str, float]) -> Json:
    """Return node data of a number per node, shaded from the least to the largest."""
    values = {name: {"value": number} for name, number in numbers.items()}
    return {_graph(model): {"results": _keyed(model, values), "gradient": list(_GRADIENT)}}


def annotated(
    model: ModelProto, placement: Sequence[Placement], times: Mapping[str, float], errors: Mapping[str, float]
) -> ModelProto:
    """Return a copy of the model whose nodes carry what is known of them, which Netron shows as metadata.

    times: µs by node · errors: 1 − cosine by node.
    """
    from onnx import ModelProto as Model  # noqa: PLC0415 - only where a model is written

    made, rows, names = Model(), {row.node: row for row in placement}, subgraphs(placement)
    made.CopyFrom(model)
    for node in made.graph.node:
        kept = [entry for entry in node.metadata_props if not entry.key.startswith(_PREFIX)]
        told = list(_told(rows.get(node.name), names, times.get(node.name), errors.get(node.name)))
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
        for key, value in told:
            node.metadata_props.add(key=f"{_PREFIX}{key}", value=value)
    return made


def _told(
    row: Placement | None, names: Mapping[int, str], time: float | None, error: float | None
) -> Iterable[tuple[str, str]]:
    if row is not None:
        yield "on", row.on
        yield "subgraph", names.get(row.segment, DASH) if row.on == "BPU" else DASH
        yield "dtypes", row.dtypes
        for key, value in (("reason", row.reason), ("fix", row.fix), ("cost", cost_text(row.cost))):
            if value:
                yield key, value
    if time is not None:
        yield "latency", in_time(time)
    if error is not None:
        yield "error", f"{error:.3g}"


def _graph(model: ModelProto) -> str:
    return model.graph.name or "main_graph"


def _keyed(model: ModelProto, values: Mapping[str, Json]) -> Json:
    """Return the results of the nodes that the model has, under their names and those of what they make."""
    found = [node for node in model.graph.node if node.name in values]
    made = {node.name: values[node.name] for node in found}
    for node in found:
        for tensor in filter(None, node.output):
            made.setdefault(tensor, values[node.name])
            made.setdefault(f"[value] {tensor}", values[node.name])
    return made
