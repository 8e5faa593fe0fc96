"""From what `openbpu verify` found to the page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from openbpu.report.page.frame import About, Tab, page
from openbpu.report.page.parts import Cell, Column, Said, Section, Table, Tiles, section
from openbpu.report.text import DASH
from openbpu.report.verify import LEGEND, NOISE, in_float32, parting, reasons, verdict

if TYPE_CHECKING:
    from openbpu.evaluation import Comparison, Verification

_COLUMNS = (
    Column("Output", "long"), Column("Cosine", "number"), Column("Max difference", "number"),
    Column("In steps", "number"), Column("Step", "number"), Column("Elements that differ", "number"),
    Column("Elements", "number"),
)  # fmt: skip


def verification_page(found: Verification, name: str, about: About | None = None) -> str:
    """Return the page of a verification as HTML text; name: of the binary."""
    tabs = [
        Tab("overview", "Overview", tuple(_overview(found))),
        Tab("outputs", "Outputs", (_outputs(found),)),
        Tab("why", "Why they differ", (_why(found),)),
        Tab("onnxruntime", "ONNX Runtime", (_beside(found),)),
    ]
    return page(f"{name}, verified", about or About(), tabs)


def _overview(found: Verification) -> Iterator[object]:
    yield Said(verdict(found), "good" if found.passed else "bad")
    differing = sum(1 for c in found.outputs if c.differing)
    said = found.explanation
    figures = [
        ("outputs", str(len(found.outputs))),
        ("outputs that differ", str(differing)),
        ("samples", str(found.samples)),
        ("judged by", found.judge),
    ]
    if said is not None:
        figures.append(("tensors compared", str(said.tensors)))
        figures.append(("codes at a tie", str(said.ties)))
        figures.append(("codes beyond any bound", str(said.wrong)))
    yield Tiles(tuple(figures))
    yield section("Why it does not pass", "", *(Said(text, "bad") for text in found.failures))
    notes = [*found.remarks, *([NOISE] if found.noise else []), *in_float32(found)]
    yield section("What to know of it", "", *(Said(text) for text in notes))


def _outputs(found: Verification) -> Section:
    rows = [_row(c) for c in found.outputs]
    told = f"The binary against the model in {found.judge}. {LEGEND}"
    return section("Outputs", told, Table(_COLUMNS, rows, "outputs"))


def _row(c: Comparison) -> tuple[object, ...]:
    return (
        c.name,
        Cell(f"{c.cosine:.6f}", c.cosine),
        Cell(f"{c.max_abs:.6g}", c.max_abs),
        Cell(DASH, math.nan) if c.max_steps is None else Cell(f"{c.max_steps:.2f}", c.max_steps),
        Cell(DASH, math.nan) if c.step is None else Cell(f"{c.step:.6g}", c.step),
        Cell(f"{c.differing:.4%}", c.differing, css="bad" if c.differing else ""),
        Cell(str(c.elements), c.elements),
    )


def _why(found: Verification) -> Section | str:
    said = found.explanation
    if said is None:
        return ""
    told = "Quantized tensors that the program shows, each judged on those before it."
    return section("Why outputs differ", told, *(Said(text) for text in reasons(said)))


def _beside(found: Verification) -> Section | str:
    if found.onnxruntime is None:
        return ""
    told = f"The same outputs as ONNX Runtime computes them, nothing optimised, against {found.judge}."
    left = [Said(parting(found.parting))] if found.parting is not None else []
    rows = [_row(c) for c in found.onnxruntime]
    return section("ONNX Runtime", told, *left, Table(_COLUMNS, rows, "outputs of ONNX Runtime"))
