"""Where every node of the user's model went, and why: the rows of the placement table."""

from __future__ import annotations

from collections.abc import Mapping

from openbpu.arch.program import Placement
from openbpu.compiler.ir import Graph, Node, Origin
from openbpu.compiler.lower.partition import Part
from openbpu.compiler.ops import OPS
from openbpu.compiler.ops.pointwise import POINTWISE
from openbpu.compiler.passes.integerise import Refusal
from openbpu.compiler.passes.qdq import DEQUANTIZE, QUANTIZE

_QDQ = (QUANTIZE, DEQUANTIZE, "Quantize", "Dequantize")
_SHORT = {"float32": "float", "float64": "double"}
_NO_UNIT = Refusal(
    "no BPU unit for this operator", "replace it by supported operators, or leave it to the CPU"
)
_FLOAT = Refusal(
    "the model is not quantized around this node (passive quantization)",
    "quantize the model: openbpu quantize, or train it with openbpu.quantization.torch",
)


class _Indexed:
    """A graph with its producers and consumers looked up once."""

    def __init__(self, graph: Graph) -> None:
        self.values = graph.values
        self.makers, self.readers = graph.producers(), graph.consumers()


def placements(
    source: Graph, parts: tuple[Part, ...], entries: Mapping[str, int], refusals: Mapping[str, Refusal]
) -> tuple[Placement, ...]:
    """Return a row per node of the model as it was read; Quantize and Dequantize only where they run.

    `entries` maps original node names to lines of the debug map, `refusals` to reasons.
    """
    where = _where(parts)
    quantized = any(n.op in _QDQ for n in source.nodes)
    indexed = _Indexed(source)
    rows = []
    for node in source.nodes:
        for origin in node.origins or (Origin(node.name, node.op),):
            found = where.get(origin.name)
            if found is None and node.op in _QDQ:
                continue
            rows.append(_row(indexed, node, origin, found, entries, refusals, quantized=quantized))
    return tuple(rows)


def _where(parts: tuple[Part, ...]) -> dict[str, tuple[int, bool]]:
    found: dict[str, tuple[int, bool]] = {}
    for index, part in enumerate(parts):
        for node in part.nodes:
            for origin in node.origins:
                # A node that was computed twice counts where it is integer.
                if part.on_bpu or origin.name not in found:
                    found[origin.name] = (index, part.on_bpu)
    return found


def _row(
    graph: _Indexed,
    node: Node,
    origin: Origin,
    found: tuple[int, bool] | None,
    entries: Mapping[str, int],
    refusals: Mapping[str, Refusal],
    *,
    quantized: bool,
) -> Placement:
    common = {
        "node": origin.name,
        "op": origin.op_type,
        "scope": origin.scope,
        "source": origin.source,
        "layer": entries.get(origin.name, -1),
    }
    if found is not None and found[1]:
        return Placement(**common, on="BPU", segment=found[0], dtypes=_dtypes(graph, node, on_bpu=True))
    if found is None and origin.name not in refusals:
        return Placement(
            **common,
            on="BPU",
            segment=-1,
            dtypes=_dtypes(graph, node, on_bpu=True),
            reason="folded: nothing is left to run",
        )
    why = refusals.get(origin.name) or _default(node, quantized=quantized)
    return Placement(
        **common,
        on="CPU",
        segment=-1 if found is None else found[0],
        dtypes=_dtypes(graph, node, on_bpu=False),
        reason=why.reason,
        fix=why.fix,
    )


def _default(node: Node, *, quantized: bool) -> Refusal:
    known = node.domain == "" and (node.op in OPS or node.op in POINTWISE)
    if node.op in _QDQ:
        return Refusal(
            "it stands between CPU operators, or this march quantizes on the CPU",
            "--remove-io takes it off the ends of the model",
        )
    if not known:
        return _NO_UNIT
    if not quantized:
        return _FLOAT
    return Refusal(
        f"its output '{node.outputs[0]}' is not quantized (passive quantization)",
        "put a Quantize/Dequantize pair behind it, and in front of its inputs",
    )


def _dtypes(graph: _Indexed, node: Node, *, on_bpu: bool) -> str:
    names = (next((n for n in node.inputs if n), ""), next((n for n in node.outputs if n), ""))
    return "/".join(_dtype(graph, n, on_bpu=on_bpu) for n in names)


def _dtype(graph: _Indexed, name: str, *, on_bpu: bool) -> str:
    value = graph.values.get(name)
    if value is None:
        return "-"
    if on_bpu and value.dtype == "float32":
        return _codes_behind(graph, name)
    return _SHORT.get(value.dtype, value.dtype)


def _codes_behind(graph: _Indexed, name: str) -> str:
    """Type of the codes a float value of the model stands for: of the Q behind it or the DQ in front of it."""
    maker = graph.makers.get(name)
    if maker is not None and maker.op == DEQUANTIZE:
        return _signed(graph.values[maker.inputs[0]].dtype)
    seen: set[str] = set()
    stack = [name]
    while stack:
        value = stack.pop()
        for reader in graph.readers.get(value, []):
            if reader.op == QUANTIZE:
                return _signed(graph.values[reader.outputs[0]].dtype)
            for out in reader.outputs:
                if out and out not in seen and len(seen) < 8:
                    seen.add(out)
                    stack.append(out)
    return "int32"


def _signed(dtype: str) -> str:
    return {"uint8": "int8", "uint16": "int16"}.get(dtype, dtype)
