"""A compiled program against its ONNX model, as tables or as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from openbpu.report.text import DASH, add_row, count, table

if TYPE_CHECKING:
    from rich.table import Table

    from openbpu.evaluation import Comparison, Explanation, Verification
    from openbpu.evaluation.beside import Parting

LEGEND = (
    "A step is the quantization step (scale) of the output: "
    f"what its value changes by when its integer changes by 1. {DASH}: the output has no step."
)
NOISE = (
    "no real data given: noise shows few of the values that a network meets; "
    "give images or arrays with --input"
)
_COLUMNS = ("Output", "Runs on", "Cosine", "Max difference", "In steps", "Elements that differ", "Elements")
OURS = "openbpu"


def verify_table(found: Verification) -> Table:
    """Return two rows per output: the program against the judge, and ONNX Runtime against it."""
    made = table(*_COLUMNS, numbers=_COLUMNS[2:])
    beside = {c.name: c for c in found.onnxruntime or ()} if found.judge == "float64" else {}
    for c in found.outputs:
        _add(made, c, OURS)
        if c.name in beside:
            _add(made, beside[c.name], "ONNX Runtime")
    return made


def _add(made: Table, c: Comparison, where: str) -> None:
    steps = DASH if c.max_steps is None else f"{c.max_steps:.2f}"
    add_row(
        made, c.name, where, f"{c.cosine:.6f}", f"{c.max_abs:.6g}", steps, f"{c.differing:.4%}", c.elements
    )


def verify_json(found: Verification) -> dict[str, Any]:
    """Return everything that was found; an infinite difference is null, which JSON can hold."""
    beside = {c.name: _json(c) for c in found.onnxruntime or ()}
    said = found.explanation
    return {
        "judge": found.judge,
        "samples": found.samples,
        "noise": found.noise,
        "outputs": [_json(c) | {"onnxruntime": beside.get(c.name)} for c in found.outputs],
        "onnxruntime_parts": None if found.parting is None else asdict(found.parting),
        "explanation": None if said is None else _explained(said),
        "float32": list(found.float32),
        "passed": found.passed,
        "failures": list(found.failures),
        "remark": "; ".join(found.remarks),
    }


def _json(c: Comparison) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(c).items()}


def _explained(said: Explanation) -> dict[str, Any]:
    return {
        "tensors": said.tensors,
        "ties": said.ties,
        "first_tie": said.first_tie,
        "within_bounds": said.near,
        "first_within_bounds": said.first_near,
        "wrong": said.wrong,
        "first_wrong": said.first_wrong,
        "outputs": said.outputs,
    }


def sentences(found: Verification) -> Iterator[str]:
    """Yield what the table does not say: why outputs differ, and what to know of the comparison."""
    yield f"Against {found.judge}, {count(found.samples, 'sample')}."
    said = found.explanation
    if said is not None and said.tensors:
        shown = count(said.tensors, "quantized tensor")
        yield f"Of {shown} that the program shows, each judged on those before it:"
        yield from (f"  {line}" for line in reasons(said))
    elif said is not None:
        yield "The program shows no quantized tensor of the model, so that nothing explains the difference."
    if found.parting is not None:
        yield parting(found.parting)
    yield from in_float32(found)
    yield from found.remarks
    if found.noise:
        yield NOISE


def in_float32(found: Verification) -> Iterator[str]:
    """Yield what is not judged in float64, if there is anything."""
    if found.float32:
        yield f"Not in float64, but as ONNX Runtime computes it: {', '.join(found.float32)}."


def parting(of: Parting) -> str:
    """Return where ONNX Runtime first leaves float64, in words."""
    codes = f"{of.differing} of {count(of.elements, 'code')} differ, {of.ties} of them at a tie"
    return (
        f"ONNX Runtime first leaves float64 at {of.tensor}: {codes}, "
        f"and lie up to {of.error:.4f} steps from the real number."
    )


def reasons(said: Explanation) -> Iterator[str]:
    """Yield why outputs differ, a sentence each."""
    if said.ties:
        yield f"{count(said.ties, 'code')} at a tie, rounded the other way; first: {said.first_tie}"
    if said.near:
        near = count(said.near, "code")
        yield f"{near} within the bound of an approximated operator; first: {said.first_near}"
    if said.first_wrong:
        yield f"wrong from here on: {said.first_wrong}"
    yield from (f"output '{name}': {why}" for name, why in said.outputs.items())
    if not (said.ties or said.near or said.first_wrong or said.outputs):
        yield "no code differs; the outputs lie within float32 and the bounds of what made them"


def verdict(found: Verification) -> str:
    """Return the result in words."""
    outputs, failed = len(found.outputs), len(found.failures)
    if failed:
        return f"verify: failed, {failed} of {count(outputs, 'output')} differ too much"
    return f"verify: passed, {count(outputs, 'output')} compared{_because(found.outputs, found.explanation)}"


def _because(outputs: Sequence[Comparison], said: Explanation | None) -> str:
    if not any(c.differing for c in outputs):
        return ", none differs"
    return ", differences explained" if said is not None and said.holds else ""
