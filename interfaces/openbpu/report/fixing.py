"""What `openbpu check --fix` did: fixes with their proof, before and after, and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from openbpu.report.placement import placement_json, placement_summary, placement_table
from openbpu.report.text import count, in_time

if TYPE_CHECKING:
    from rich.console import RenderableType

    from openbpu.evaluation.fixing import Change, Cure, Side

_MILLI = 1000.0


def fixing_parts(found: Cure, out: str) -> list[RenderableType]:
    """Return what is shown."""
    parts: list[RenderableType] = [_change(c) for c in found.changes]
    if not found.changes:
        parts.append("nothing to fix without cost: the model is written as it is")
    parts += [_proof(found)] if found.changes else []
    parts.append(f"before: {_side(found.before)}")
    parts += [f"after:  {_side(found.after)}"] if found.changes else []
    if found.left:
        parts += [placement_table(found.left), "what is left would cost accuracy, or is for you to decide"]
    return [*parts, f"wrote {out}"]


def fixing_json(found: Cure) -> dict[str, Any]:
    """Return the same as a document."""
    return {
        "fixes": [
            {
                "fix": c.words,
                "nodes": list(c.nodes),
                "difference": c.proof.difference,
                "bound": c.proof.bound,
            }
            for c in found.changes
        ],
        "proof": {
            "runs": found.proof.runs,
            "data": "drawn" if found.drawn else "given",
            "difference": found.proof.difference,
            "bound": found.proof.bound,
        },
        "before": _side_json(found.before),
        "after": _side_json(found.after),
        "placement": placement_json(found.after.placement),
        "left": placement_json(found.left),
    }


def _change(change: Change) -> str:
    return f"fixed: {change.words}{_of(change.nodes)}"


def _of(nodes: Sequence[str]) -> str:
    if not nodes:
        return ""
    shown = ", ".join(nodes[:4])
    return f" ({shown}{f' and {len(nodes) - 4} more' if len(nodes) > 4 else ''})"


def _proof(found: Cure) -> str:
    proof, data = found.proof, "drawn" if found.drawn else "given"
    return (
        f"proof: outputs differ by at most {proof.difference:.2g} of their largest magnitude (bound "
        f"{proof.bound:.2g}) in {count(proof.runs, 'run')} on {data} data, ONNX Runtime without optimizations"
    )


def _side(side: Side) -> str:
    time = "" if side.latency_us is None else f", {in_time(side.latency_us)} a run (estimate)"
    return f"{placement_summary(side.placement)}{time}"


def _side_json(side: Side) -> dict[str, Any]:
    return {
        "nodes on the CPU": side.on_cpu,
        "latency_ms_estimate": None if side.latency_us is None else side.latency_us / _MILLI,
        "summary": placement_summary(side.placement),
    }
