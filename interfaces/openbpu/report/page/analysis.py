"""From an analysis to the page: where the precision goes, node by node."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from openbpu.report.analysis import advice, cause, decibels, first_sentence, sentences
from openbpu.report.page.frame import About, Tab, page
from openbpu.report.page.histogram import KEY, histogram
from openbpu.report.page.parts import (
    Card,
    Cell,
    Column,
    Gallery,
    Legend,
    Mark,
    Network,
    Node,
    Plot,
    Said,
    Section,
    Table,
    Tiles,
    section,
)  # fmt: skip
from openbpu.report.text import DASH, count

if TYPE_CHECKING:
    from openbpu.evaluation.analysis import Analysis, NodeError, Sensitivity

_TOP_DB = 60
_COLOURS = ((50, "e0"), (40, "e1"), (30, "e2"), (20, "e3"), (10, "e4"), (3, "e5"), (-math.inf, "e6"))
_SHOWN_OUTPUTS = 6
_DRAWN = 1000
"""Histograms that a page has at most: those of the nodes that add most."""


def analysis_page(
    found: Analysis, felt: Sequence[Sensitivity] = (), metric: str = "", about: About | None = None
) -> str:
    """Return the page of an analysis as HTML text. felt: sensitivities by `metric`, where measured."""
    names = [PurePath(name).name for name in (found.quantized, found.float_model)]
    title = f"{names[0]} against {names[1]}: where the precision goes"
    tabs = [
        Tab("overview", "Overview", tuple(_overview(found))),
        Tab("nodes", "Nodes", (_nodes(found),)),
        Tab("network", "Network", (_network(found),)),
        Tab("histograms", "Histograms", (_histograms(found),)),
        Tab("weights", "Weights", (_weights(found),)),
        Tab("sensitivity", "Sensitivity", (sensitivity(felt, metric),)),
    ]
    return page(title, about or About(), tabs)


def accuracy_parts(found: Analysis, felt: Sequence[Sensitivity] = (), metric: str = "") -> tuple[object, ...]:
    """Return the same for another page: where it goes wrong, the nodes, the network."""
    plain = _network(found, linked=False)
    return (*_overview(found), _nodes(found), plain, _weights(found), sensitivity(felt, metric))


def _overview(found: Analysis) -> Iterator[object]:
    first, *rest = first_sentence(found), *(s for s in sentences(found) if s != first_sentence(found))
    yield Said(first, "good" if found.first is None else "bad")
    figures = [(f"cosine of output '{row.tensor}'", f"{row.so_far.cosine:.6f}") for row in found.outputs]
    low = sum(row.so_far.cosine < found.min_cosine for row in found.rows)
    figures = figures[:_SHOWN_OUTPUTS]
    figures.append((f"nodes below a cosine of {found.min_cosine:g}", f"{low} of {len(found.rows)}"))
    figures.append(("run of " + count(found.given, "sample"), str(found.samples)))
    yield Tiles(tuple(figures))
    if found.first is not None:
        rows = dict.fromkeys((found.first.row.tensor, found.first.most.tensor))
        cards = [_card(found.row(name), "first") for name in rows]
        shown = Gallery([card for card in cards if card.body], (), "nodes")
        yield section("Where it goes wrong, and what adds most on the way there", "", shown, _legend(shown))
    told = "SQNR in dB, node by node in the order of the network; what is up here has little noise."
    yield section("Noise along the network", told, _profile(found.rows))
    told = "Those that add most first; what the node would have alone then, where that can be computed."
    yield section("What to do", told, _remedies(found))
    yield section("What was run", "", *(Said(sentence) for sentence in rest))


def _legend(shown: Gallery) -> object:
    return Legend(KEY) if shown else ""


def _profile(rows: Sequence[NodeError]) -> Plot | str:
    """Draw the SQNR so far as a line, and that of each node alone as dots."""
    if not rows:
        return ""
    n = len(rows)
    line = "M" + "L".join(f"{_along(k, n)} {_down(row.so_far.sqnr)}" for k, row in enumerate(rows))
    marks = [
        Mark(f"{colour(row.alone.sqnr)} edged", f"M{_along(k, n)} {_down(row.alone.sqnr)}h0", "dot",
             f"{row.node}: {decibels(row.alone.sqnr)} alone, {decibels(row.so_far.sqnr)} so far")
        for k, row in enumerate(rows) if not row.alone.equal
    ]  # fmt: skip
    left = [(1 - db / _TOP_DB, f"{db} dB") for db in (0, 20, 40, 60)]
    below = [(0.0, "node 1"), (1.0, f"{n}")]
    names = (("ink", "so far"), ("e4", "a node alone: a dot, coloured by its noise"))
    return Plot("noise along the network", [Mark("ink", line, "line"), *marks], 220, left, (), below, names)


def _along(k: int, n: int) -> str:
    return f"{1000 * (k + 0.5) / n:.1f}"


def _down(sqnr: float) -> str:
    share = min(max(sqnr, 0.0), _TOP_DB) / _TOP_DB if not math.isnan(sqnr) else 0.0
    return f"{1000 * (1 - share):.0f}"


def colour(sqnr: float) -> str:
    """Return the class of an SQNR: the darker, the noisier."""
    return next((css for least, css in _COLOURS if sqnr >= least), "e6")


def _remedies(found: Analysis) -> Table:
    rows = [
        (
            *(Cell(row.node, under=row.where), row.op, _db(row.alone.sqnr)),
            Cell("" if then is None else decibels(then), then),
            *(cause(row), advice(row)),
        )
        for row in found.worst() if row.remedies
        for then in [max((r.sqnr for r in row.remedies if r.sqnr is not None), default=None)]
    ]  # fmt: skip
    columns = (
        Column("Node", "long"), Column("Operator"), Column("SQNR alone", "number"),
        Column("at best then", "number"), Column("Cause"), Column("What to do", "long"),
    )  # fmt: skip
    return Table(columns, rows, "nodes")


def _nodes(found: Analysis) -> Section:
    place = {row.tensor: k + 1 for k, row in enumerate(found.rows)}
    rows = [_row(found, row, place[row.tensor]) for row in found.worst()]
    names = ("Cosine", "SQNR", "L1", "Max", "Cosine alone", "SQNR alone")
    binary = ("Binary cosine", "Binary differs") if found.hbm else ()
    columns = (
        Column("Node", "long"), Column("At", "number"), Column("Operator"),
        *(Column(name, "number") for name in names), Column("Type"), Column("Clipped", "number"),
        Column("Codes used", "number"), *(Column(name, "number") for name in binary), Column("Cause", "long"),
    )  # fmt: skip
    told = (
        "Those that add most noise first. So far: the quantized run against the float run; alone: this node, "
        "its weights and its rounding on the float run's tensors."
    )
    return section("Nodes", told, Table(columns, rows, "nodes"))


def _row(found: Analysis, row: NodeError, at: int) -> tuple[object, ...]:
    low = row.so_far.cosine < found.min_cosine
    simulated = None if row.simulated is None else row.simulated.cosine
    binary = (_number(simulated, "{:.6f}"), _share(row.deviating)) if found.hbm else ()
    return (
        *(Cell(row.node, under=row.where), Cell(at, at), row.op),
        Cell(f"{row.so_far.cosine:.6f}", row.so_far.cosine, css="bad" if low else ""),
        *(_db(row.so_far.sqnr), _number(row.so_far.l1, "{:.4g}"), _number(row.so_far.max_abs, "{:.4g}")),
        *((Cell(DASH, math.nan),) * 2 if row.alone.equal else (
            _number(row.alone.cosine, "{:.6f}"), _db(row.alone.sqnr)
        )),
        *(row.dtype or DASH, _share(row.clipped), _share(row.used), *binary),
        Cell(cause(row), under=advice(row)),
    )  # fmt: skip


def _db(value: float) -> Cell:
    return Cell(decibels(value), value)


def _number(value: float | None, form: str) -> Cell:
    return Cell(DASH, math.nan) if value is None else Cell(form.format(value), value)


def _share(value: float | None) -> Cell:
    return _number(value, "{:.2%}")


def _network(found: Analysis, *, linked: bool = True) -> Section:
    """Return every node in its order, coloured by its noise so far and alone."""
    drawn = {row.tensor for row in _drawn(found)} if linked else set()
    where = {row.tensor: k for k, row in enumerate(found.rows)}
    first = found.first.row if found.first is not None else None
    nodes = [
        Node(
            at=k + 1,
            name=row.node,
            under=" · ".join(filter(None, (row.op, row.where))),
            figures=f"{decibels(row.so_far.sqnr)} so far · "
            + ("adds nothing" if row.alone.equal else f"{decibels(row.alone.sqnr)} alone"),
            colours=(colour(row.so_far.sqnr), "none" if row.alone.equal else colour(row.alone.sqnr)),
            keys=(k, row.so_far.sqnr, row.alone.sqnr),
            link=f"tensor{where[row.tensor]}" if row.tensor in drawn else "",
            marked=row is first,
        )
        for k, row in enumerate(found.rows)
    ]
    names = ["50 dB and more", "40 dB", "30 dB", "20 dB", "10 dB", "3 dB", "less"]
    key = tuple((css, name) for (_, css), name in zip(_COLOURS, names, strict=True))
    told = "In order, coloured by SQNR: left what has come together so far, right what the node adds alone."
    marked = " The first one that goes wrong has a frame." if first is not None else ""
    sorts = ("place in the network", "SQNR so far", "SQNR alone")
    return section("The network", told + marked, Network(nodes, sorts, key))


def _drawn(found: Analysis) -> list[NodeError]:
    """Return the nodes that have a histogram, the worst first."""
    return [row for row in found.worst() if row.values is not None and row.values.counts][:_DRAWN]


def _histograms(found: Analysis) -> Section:
    where = {row.tensor: k for k, row in enumerate(found.rows)}
    cards = [_card(row, f"tensor{where[row.tensor]}", where[row.tensor]) for row in _drawn(found)]
    told = (
        "Values of every result over all samples, those that add most noise first. Heights are logarithmic."
    )
    sorts = ("place in the network", "SQNR alone", "clipped", "codes used")
    return section("Histograms", told, Legend(KEY), Gallery(cards, sorts, "histograms"))


def _card(row: NodeError, key: str, at: int = 0) -> Card:
    low, high = row.range or (None, None)
    facts = [
        ("so far", f"cosine {row.so_far.cosine:.6f}, {decibels(row.so_far.sqnr)}"),
        ("alone", "adds nothing" if row.alone.equal else f"{decibels(row.alone.sqnr)}, {cause(row)}"),
        ("values", f"{row.least:.4g} … {row.largest:.4g}"),
    ]
    if low is not None:
        facts.append((f"range of {row.dtype}", f"{low:.4g} … {high:.4g}"))
        facts.append(("clipped, codes used", f"{row.clipped or 0:.2%}, {row.used or 0:.0%}"))
    keys = (at, row.alone.sqnr, None if row.clipped is None else -row.clipped, row.used)
    under = " · ".join(filter(None, (row.op, row.where)))
    return Card(key, row.node, under, histogram(row), tuple(facts), keys)


def _weights(found: Analysis) -> Section:
    rows = [
        (
            *(Cell(w.node, under=" ".join(filter(None, (w.module, w.source)))), w.tensor),
            *(Cell(w.channels, w.channels), Cell(w.narrow, w.narrow), _number(w.steps, "{:.3g}")),
            *(Cell(w.narrowest, w.narrowest), _number(w.unevenness, "{:.3g}")),
        )
        for w in found.weights
    ]
    names = ("Channels", "Narrow", "Fewest steps", "In channel", "Widest / narrowest")
    columns = (Column("Node", "long"), Column("Weights", "long"), *(Column(n, "number") for n in names))
    told = "Their channels cannot share one scale: the narrow ones have less than 8 steps of it."
    return section("Weights", told, Table(columns, rows, "weights"))


def sensitivity(felt: Sequence[Sensitivity], metric: str) -> Section:
    """Return how much the outputs feel each node, the most sensitive first."""
    only = bool(felt) and felt[0].mode == "only"
    rows = [
        (
            *(Cell(row.node, under=" ".join(filter(None, (row.module, row.source)))), row.op),
            *(_number(row.value, "{:.6g}"), _number(row.loss, "{:.4g}"), Cell(row.samples, row.samples)),
        )
        for row in felt
    ]
    which = "nothing but this node is quantized" if only else "all but this node is quantized"
    names = (metric or "Value", "Loss" if only else "Gain", "Samples")
    columns = (Column("Node", "long"), Column("Operator"), *(Column(name, "number") for name in names))
    told = f"{metric} of the outputs when {which}; the most sensitive first."
    return section("Sensitivity", told, Table(columns, rows, "nodes"))
