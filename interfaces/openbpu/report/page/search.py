"""A mixed precision search on a page: every configuration by latency and by what it loses, and the front."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, isfinite
from typing import TYPE_CHECKING

from openbpu.report.page.parts import Cell, Column, Mark, Plot, Said, Section, Table, section
from openbpu.report.search import sentences, shown_loss, shown_score
from openbpu.report.text import in_time

if TYPE_CHECKING:
    from openbpu.evaluation.search import Point, Search

_MARKS = {"chosen": "red", "front": "tae", "without search": "ink", "": "grey"}


def search_parts(found: Search) -> tuple[object, ...]:
    """Return what was searched, the Pareto front as a drawing, every configuration, and what int16 gains."""
    goal = Said(found.why or found.goal.words, "good" if found.reached else "bad")
    return goal, _front(found), _points(found), _nodes(found), _gains(found), *_said(found)


def _said(found: Search) -> Iterator[object]:
    yield section("What was searched", "", *(Said(text) for text in (*sentences(found), *found.told)))
    yield section("What could not be tried", "", *(Said(text) for text in found.refused))


def _kind(found: Search, point: Point) -> str:
    """Return what a configuration is: "chosen", "front", "without search", or "" for none of them."""
    if point is found.best:
        return "chosen"
    return "front" if point.front else "without search" if point is found.base else ""


def _front(found: Search) -> Section:
    told = (
        "What is lost against float, upwards, by latency. What lies above the scale of the front is left out."
    )
    return section("Accuracy against latency", told, _plot(found))


def _plot(found: Search) -> Plot | str:
    """Draw the points; "" where there is nothing to compare."""
    points = [p for p in found.points if isfinite(p.loss)]
    front = [p for p in found.front if isfinite(p.loss)]
    if not front or len({p.latency_us for p in points}) < 2:
        return ""
    losses = [*(p.loss for p in front), found.best.loss if isfinite(found.best.loss) else 0.0]
    low, high = min(losses), max(*losses, found.goal.budget or 0.0)
    left, right = (f(p.latency_us for p in points) for f in (min, max))

    def across(point: Point) -> float:
        return 30 + 940 * (point.latency_us - left) / (right - left)

    def down(point: Point) -> float:
        return 960 - 920 * ((point.loss - low) / (high - low) if high > low else 0.0)

    corners = [(across(p), down(p)) for p in front]
    stairs = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}" + "".join(
        f"H{x:.1f}V{y:.1f}" for x, y in corners[1:]
    )
    dots = [
        Mark(_MARKS[_kind(found, p)], f"M{across(p):.1f} {down(p):.1f}h0", "dot",
             f"{p.name}: {in_time(p.latency_us)}, {shown_loss(p.loss)} below float")
        for p in sorted(points, key=lambda p: (p is found.best, p.front)) if p.loss <= high
    ]  # fmt: skip
    scale = [(0.04, shown_loss(high)), (0.96, shown_loss(low))] if high > low else [(0.96, shown_loss(low))]
    below = [(0.03, in_time(left)), (0.97, in_time(right))]
    key = [("red", "chosen"), ("tae", "Pareto front"), ("ink", "without search"), ("grey", "others")]
    return Plot("accuracy against latency", [Mark("tae", stairs, "line"), *dots], 240, scale, (), below, key)


def _points(found: Search) -> Section:
    rows = [
        (
            Cell(point.name, under=" ".join(point.setup.recipe.words)),
            _kind(found, point),
            Cell(shown_score(found, point.score), point.score),
            Cell(shown_loss(point.loss), point.loss if isfinite(point.loss) else inf),
            Cell(in_time(point.latency_us), point.latency_us),
            Cell(f"{100 * point.increase:+.1f} %", point.increase),
            *(_whole(len(point.setup.named(kind))) for kind in ("int16", "float")),
            _whole(len(point.cpu_nodes)),
        )
        for point in sorted(found.points, key=lambda p: (p.latency_us, p.loss))
    ]
    names = (
        found.metric,
        "Below float",
        "Latency",
        f"Against {found.base.name}",
        "int16",
        "float",
        "On the CPU",
    )
    columns = (Column("Configuration", "long"), Column("It is"), *(Column(name, "number") for name in names))
    return section("Configurations", "The fastest first.", Table(columns, rows, "configurations"))


def _whole(n: int) -> Cell:
    return Cell(n, n)


def _nodes(found: Search) -> Section:
    rows = [(node, kind) for kind in ("int16", "float") for node in found.nodes(kind)]
    columns = (Column("Node", "long"), Column("Type"))
    return section("Chosen types", "All other nodes are as they were.", Table(columns, rows, "nodes"))


def _gains(found: Search) -> Section:
    rows = [
        (gain.tensor, ", ".join(gain.nodes), Cell(f"{gain.noise:.3g}", gain.noise),
         Cell(in_time(gain.microseconds), gain.microseconds))
        for gain in found.gains
    ]  # fmt: skip
    columns = (
        Column("Tensor", "long"), Column("Nodes that read it", "long"), Column("Noise", "number"),
        Column("Costs", "number"),
    )  # fmt: skip
    told = "What its int8 pair adds to the outputs, as a share of their energy, and what int16 takes longer."
    return section("What int16 would win, and cost", told, Table(columns, rows, "tensors"))
