"""Where every node of the user's model went, and why: the rows of the placement table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from openbpu.arch.numerics.functions import POINTWISE
from openbpu.arch.program import NO_COST, Placement
from openbpu.compiler.ir import Graph, Node, Origin
from openbpu.compiler.ir.qdq import DEQUANTIZE, QUANTIZE
from openbpu.compiler.lower.costs import Costs
from openbpu.compiler.lower.ends import between, turned_end, turned_ends
from openbpu.compiler.lower.partition import Part
from openbpu.compiler.ops import OPS
from openbpu.compiler.ops.advice import no_result
from openbpu.compiler.passes.refusals import Refusal
from openbpu.compiler.reader.schemas import RUNNABLE_DOMAINS

_QDQ = (QUANTIZE, DEQUANTIZE, "Quantize", "Dequantize")
_INTEGER = ("QLinear", "QGemm", "DynamicQuantize", "ConvInteger", "MatMulInteger")
_SHORT = {"float32": "float", "float64": "double"}
_NO_UNIT = Refusal(
    "no BPU unit for this operator", "replace it by supported operators, or leave it to the CPU"
)
_FLOAT = Refusal(
    "the model is not quantized",
    "quantize the model: openbpu quantize, or train it with openbpu.quantization.torch",
)


class _Model:
    """The model as it was read, with what `placements` needs to know about its nodes looked up once."""

    def __init__(
        self,
        graph: Graph,
        entries: Mapping[str, int],
        refusals: Mapping[str, Refusal],
        where: Mapping[str, tuple[int, bool]],
    ) -> None:
        self.graph, self.values = graph, graph.values
        self.makers, self.readers = graph.producers(), graph.consumers()
        self.entries, self.refusals = entries, refusals
        self.on_bpu = {name for name, (_, on_bpu) in where.items() if on_bpu}
        self.is_quantized = any(n.op in _QDQ or n.op.startswith(_INTEGER) for n in graph.nodes)

    def is_float(self, node: Node) -> bool:
        """Whether `node` would have a unit if anything in the model were quantized."""
        return not self.is_quantized and _is_known(node)


def placements(
    source: Graph,
    parts: tuple[Part, ...],
    entries: Mapping[str, int],
    refusals: Mapping[str, Refusal],
    costs: Costs,
) -> tuple[Placement, ...]:
    """Return a row per node of the model as it was read; Quantize and Dequantize only where they run.

    `entries` maps original node names to lines of the debug map, `refusals` to reasons, `costs` segments and
    names to what the CPU costs.
    """
    rows = _rows(source, parts, entries, refusals)
    return tuple(
        replace(r, cost=costs.get((r.segment, r.node), NO_COST)) if r.on == "CPU" else r for r in rows
    )


def _rows(
    source: Graph, parts: tuple[Part, ...], entries: Mapping[str, int], refusals: Mapping[str, Refusal]
) -> tuple[Placement, ...]:
    where = _where(parts)
    model = _Model(source, entries, {**refusals, **turned_ends(source, parts)}, where)
    rows: list[Placement] = []
    for node in source.nodes:
        for origin in node.origins or (Origin(node.name, node.op),):
            found = where.get(origin.name)
            if found is None and node.op in _QDQ:
                continue
            rows.append(_row(model, node, origin, found))
    return (*rows, *_turned_beside(model, parts, {row.segment for row in rows if row.on == "CPU"}))


def _turned_beside(model: _Model, parts: tuple[Part, ...], listed: set[int]) -> Iterator[Placement]:
    """Rows of CPU segments that have none: of nodes that run on the BPU, where only their ends are turned."""
    for index, part in enumerate(parts):
        if part.on_bpu or index in listed:
            continue
        for node in part.nodes:
            why = turned_end(model.graph, node)
            if why is not None:
                yield from (_turned_row(model, node, o, index, why) for o in node.origins)


def _turned_row(model: _Model, node: Node, origin: Origin, segment: int, why: Refusal) -> Placement:
    return Placement(
        node=origin.name,
        op=node.op,
        on="CPU",
        segment=segment,
        dtypes=_dtypes(model, node, on_bpu=False),
        reason=why.reason,
        fix=why.fix,
        scope=origin.scope,
        source=origin.source,
        layer=-1,
    )


def _where(parts: tuple[Part, ...]) -> dict[str, tuple[int, bool]]:
    found: dict[str, tuple[int, bool]] = {}
    for index, part in enumerate(parts):
        for node in part.nodes:
            for origin in node.origins:
                # A node that was computed twice counts where it is integer.
                if part.on_bpu or origin.name not in found:
                    found[origin.name] = (index, part.on_bpu)
    return found


def _row(model: _Model, node: Node, origin: Origin, found: tuple[int, bool] | None) -> Placement:
    refused = model.refusals.get(origin.name)
    segment, on_bpu = found if found is not None else (-1, refused is None)
    row = Placement(
        node=origin.name,
        op=origin.op_type,
        on="BPU" if on_bpu else "CPU",
        segment=segment,
        dtypes=_dtypes(model, node, on_bpu=on_bpu),
        scope=origin.scope,
        source=origin.source,
        layer=model.entries.get(origin.name, -1),
    )
    if on_bpu:
        return row if found is not None else replace(row, reason="folded: nothing is left to run")
    # What a single operator misses (its weight, its input) is no help while the model has no scale at all.
    why = _FLOAT if model.is_float(node) else refused or _default(model, node)
    return replace(row, reason=why.reason, fix=why.fix)


def _is_known(node: Node) -> bool:
    return node.domain == "" and (node.op in OPS or node.op in POINTWISE)


def _default(model: _Model, node: Node) -> Refusal:
    if node.op in _QDQ:
        return between(model.graph, node, model.makers, model.readers, model.on_bpu)
    if node.domain not in RUNNABLE_DOMAINS:
        reason = f"no table knows this operator of domain '{node.domain}', nor does ONNX Runtime"
        return Refusal(reason, "replace it by standard operators: `compile` refuses it")
    if not _is_known(node):
        return _NO_UNIT
    why = no_result(model.graph, model.makers, node)
    return Refusal(why.reason, why.fix)


def _dtypes(model: _Model, node: Node, *, on_bpu: bool) -> str:
    names = (next((n for n in node.inputs if n), ""), next((n for n in node.outputs if n), ""))
    as_codes = on_bpu and node.op not in _QDQ  # a Quantize or Dequantize has floats on one side
    return "/".join(_dtype(model, n, on_bpu=as_codes) for n in names)


def _dtype(model: _Model, name: str, *, on_bpu: bool) -> str:
    value = model.values.get(name)
    if value is None:
        return "-"
    if on_bpu and value.dtype == "float32":
        return _codes_behind(model, name)
    return _SHORT.get(value.dtype, value.dtype)


def _codes_behind(model: _Model, name: str) -> str:
    """Type of the codes that a float value stands for: of the DQ in front of it or the Q behind it."""
    maker = model.makers.get(name)
    if maker is not None and maker.op == DEQUANTIZE:
        return _signed(model.values[maker.inputs[0]].dtype)
    seen: set[str] = set()
    stack = [name]
    while stack:
        value = stack.pop()
        for reader in model.readers.get(value, []):
            if reader.op == QUANTIZE:
                return _signed(model.values[reader.outputs[0]].dtype)
            for out in reader.outputs:
                if out and out not in seen and len(seen) < 8:
                    seen.add(out)
                    stack.append(out)
    return "int32"


def _signed(dtype: str) -> str:
    return {"uint8": "int8", "uint16": "int16"}.get(dtype, dtype)
