"""From the closing report of `openbpu quantize` to the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from openbpu.report.closing import closeness_sentence, seen
from openbpu.report.page.frame import About, Tab, page
from openbpu.report.page.parts import (
    Bar,
    Bars,
    Cell,
    Column,
    Said,
    Section,
    Table,
    Tiles,
    section,
)  # fmt: skip
from openbpu.report.page.performance import placement
from openbpu.report.page.search import search_parts
from openbpu.report.placement import placement_json, placement_summary
from openbpu.report.text import DASH, count

if TYPE_CHECKING:
    from openbpu.evaluation.closing import Closing, RangeUse, Report
    from openbpu.evaluation.search import Search

_CLOSE = 0.99
_SHOWN_OUTPUTS = 6
_LOOKED_AT = ("clips", "wasteful", "coarse")


def closing_page(
    found: Closing,
    name: str,
    notes: Sequence[str] = (),
    about: About | None = None,
    search: Search | None = None,
) -> str:
    """Return the page of a closing report as HTML text.

    notes: what else was said of the quantization · search: that the types come from, for a tab of its own.
    """
    report = found.report
    tabs = [
        Tab("overview", "Overview", tuple(_overview(found, notes))),
        Tab("search", "Search", () if search is None else search_parts(search)),
        Tab("findings", "Findings", (_findings(report),)),
        Tab("ranges", "Ranges", (_ranges(report),)),
        Tab("inputs", "Inputs", (_inputs(report),)),
        Tab("placement", "Placement", (_placement(found),)),
        Tab("time", "Time", (_time(report),)),
    ]
    return page(f"{name}, quantized", about or About(), tabs)


def _overview(found: Closing, notes: Sequence[str]) -> Iterator[object]:
    report = found.report
    worst = min((c for c in report.cosines.values() if not math.isnan(c)), default=math.nan)
    yield Said(closeness_sentence(report), "good" if worst >= _CLOSE else "bad" if worst < _CLOSE else "")
    figures = [
        ("ranges that clip", str(len(report.clipped))),
        ("ranges that waste codes", str(len(report.wasted))),
        ("tensors of few steps", str(len(report.coarse))),
        ("findings", str(len(report.findings))),
        ("of quantizing", f"{sum(report.seconds.values()):.1f} s"),
    ]
    yield Tiles((*((f"tensors {kind}", str(n)) for kind, n in report.types.items()), *figures))
    yield section("Look at this", "", *(Said(text, "bad") for text in _doubts(report)))
    yield section("Outputs", _data(report), _outputs(report))
    yield section("Where it runs", "", Said(_where(found), "bad" if found.refused else ""))
    yield section("What was chosen", "", *(Said(text) for text in notes))


def _data(report: Report) -> str:
    if report.held_out:
        return f"On {count(report.judged, 'sample')} held out; {report.calibrated} made the ranges."
    return f"On {count(report.judged, 'sample')} of the calibration itself: too few to hold any out."


def _doubts(report: Report) -> Iterator[str]:
    for look in report.inputs:
        yield from (f"input '{look.name}': {doubt}" for doubt in look.doubts)
    for name in report.same:
        yield f"output '{name}' of the float model is the same for all samples"


def _outputs(report: Report) -> Table:
    rows = [
        (name, Cell(DASH if math.isnan(c) else f"{c:.6f}", c, css="bad" if c < _CLOSE else ""))
        for name, c in sorted(report.cosines.items(), key=lambda item: item[1])
    ]
    return Table((Column("Output", "long"), Column("Cosine to float", "number")), rows, "outputs")


def _findings(report: Report) -> Section:
    rows = [(f.kind, f.text, f.tensor, f.node) for f in report.findings]
    columns = (Column("Kind"), Column("What", "long"), Column("Tensor", "long"), Column("Node", "long"))
    return section("Findings", "What to know of single tensors and nodes.", Table(columns, rows, "findings"))


def _ranges(report: Report) -> Section:
    marks: dict[str, list[str]] = {}
    for word, uses in zip(_LOOKED_AT, (report.clipped, report.wasted, report.coarse), strict=True):
        for use in uses:
            marks.setdefault(use.tensor, []).append(word)
    rows = [_range(use, marks.get(use.tensor, [])) for use in report.ranges]
    rows.sort(key=lambda row: not row[-1])
    columns = (
        Column("Tensor", "long"), Column("Type"), Column("Range ±", "number"), Column("Clipped", "number"),
        Column("Codes needed", "number"), Column("Steps", "number"), Column("Look"),
    )  # fmt: skip
    told = (
        "Those to look at first. clips: cuts off more than 0.1 % of the values; wasteful: keeps three "
        "quarters of its codes for less than 0.01 % of them; coarse: nine tenths of the values, zeros aside, "
        "lie within one step. Steps: of the scale, in the largest of these nine tenths."
    )
    return section("Ranges", told, Table(columns, rows, "ranges"))


def _range(use: RangeUse, marks: Sequence[str]) -> tuple[object, ...]:
    def bad(word: str) -> str:
        return "bad" if word in marks else ""

    steps = f"{use.steps:.3g}" if math.isfinite(use.steps) else DASH
    return (
        *(use.tensor, use.dtype.value, Cell(f"{use.range:.4g}", use.range)),
        Cell(f"{use.clipped:.2%}", use.clipped, css=bad("clips")),
        Cell(f"{use.used:.0%}", use.used, css=bad("wasteful")),
        Cell(steps, use.steps if math.isfinite(use.steps) else math.nan, css=bad("coarse")),
        ", ".join(marks),
    )


def _inputs(report: Report) -> Section:
    rows = [
        (
            *(look.name, *(Cell(f"{v:.4g}", v) for v in (look.low, look.high, look.mean, look.std))),
            Cell(seen(look).partition(": ")[2] or look.kind, under="; ".join(look.doubts)),
        )
        for look in report.inputs
    ]
    names = ("Least", "Largest", "Mean", "Deviation")
    columns = (Column("Input", "long"), *(Column(n, "number") for n in names), Column("Looks like", "long"))
    return section("Inputs", "What the model saw, after scaling.", Table(columns, rows, "inputs"))


def _where(found: Closing) -> str:
    return f"on {found.march}: {found.refused or placement_summary(found.placement)}"


def _placement(found: Closing) -> Section | str:
    if found.refused:
        return ""
    rows = placement_json(found.placement)
    summary = f"{placement_summary(found.placement)} of {found.march}"
    return placement({"summary": summary, "nodes": sorted(rows, key=lambda row: row["on"] != "CPU")})


def _time(report: Report) -> Section:
    total = max(report.seconds.values(), default=0.0) or 1.0
    slow = sorted(report.seconds.items(), key=lambda item: -item[1])
    bars = tuple(Bar(stage, (("load", s / total),), f"{s:.2f} s") for stage, s in slow)
    return section("Time", "Of quantizing, by stage.", Bars("seconds by stage", bars))
