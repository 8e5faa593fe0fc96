"""What a page is made of: figures, tables, bars, cards, drawings. Each renders itself, everything escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from openbpu.report.page.frame import render

Kind = Literal["text", "number", "long"]


_LONG = 24
"""Letters of a text that a column need not break."""


@dataclass(frozen=True, slots=True)
class Column:
    """number: set to the right, sorted by value, largest first · long: may break anywhere, and is wide."""

    name: str
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class Cell:
    """shown: what is read · key: what is sorted by, None last · under: a smaller line · css: a mark."""

    shown: object
    key: float | None = None
    under: str = ""
    css: str = ""

    @property
    def value(self) -> str | None:
        """What the script sorts by; None where that is the text."""
        return None if self.key is None else sortable(self.key)


def sortable(key: float | None) -> str:
    """Return a number as JavaScript reads it; "" for none and for NaN, which come last."""
    if key is None or math.isnan(key):
        return ""
    return f"{key:.9g}".replace("inf", "Infinity")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows that a reader may sort and filter; a cell that is no `Cell` is text. No column is empty."""

    columns: tuple[Column, ...]
    rows: Sequence[Sequence[object]]
    name: str = "rows"

    def __bool__(self) -> bool:
        return bool(self.rows)

    def __html__(self) -> str:
        cells = [[c if isinstance(c, Cell) else Cell(c) for c in row] for row in self.rows]
        used = [k for k in range(len(self.columns)) if any(row[k].shown != "" for row in cells)]
        columns = [self._column(k, cells) for k in used]
        return render("table", columns, [[row[k] for k in used] for row in cells], self.name)

    def _column(self, k: int, cells: Sequence[Sequence[Cell]]) -> Column:
        """Return a column as it is shown: text that is too long for one line may break."""
        column = self.columns[k]
        longest = max(len(str(row[k].shown)) for row in cells)
        return Column(column.name, "long") if column.kind == "text" and longest > _LONG else column


@dataclass(frozen=True, slots=True)
class Section:
    """A headed part, with a sentence that explains it. Nothing where there is nothing in it."""

    title: str
    told: str
    parts: tuple[object, ...]

    def __bool__(self) -> bool:
        return any(self.parts)

    def __html__(self) -> str:
        return render("section", self) if self else ""


def section(title: str, told: str, *parts: object) -> Section:
    """Return a headed part of the page."""
    return Section(title, told, parts)


@dataclass(frozen=True, slots=True)
class Tiles:
    """Large figures, each with what it is: (what, value)."""

    figures: tuple[tuple[str, str], ...]

    def __bool__(self) -> bool:
        return bool(self.figures)

    def __html__(self) -> str:
        return render("tiles", self.figures)


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence that must be seen. kind: "good", "bad", or "" for neither."""

    text: str
    kind: Literal["good", "bad", ""] = ""
    under: str = ""

    def __html__(self) -> str:
        return render("said", self)


@dataclass(frozen=True, slots=True)
class Bar:
    """A line of a bar chart. pieces: (css class, share of the whole width)."""

    name: str
    pieces: tuple[tuple[str, float], ...]
    value: str


@dataclass(frozen=True, slots=True)
class Bars:
    """Lines of bars under one another, with the meaning of their colours."""

    title: str
    bars: tuple[Bar, ...]
    key: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.bars)

    def __html__(self) -> str:
        return render("bars", self)


@dataclass(frozen=True, slots=True)
class Legend:
    """What colours mean: (css class, meaning)."""

    key: tuple[tuple[str, str], ...]

    def __html__(self) -> str:
        return render("legend", self.key)


@dataclass(frozen=True, slots=True)
class Mark:
    """A shape of a plot, in thousandths of its width and height. kind: filled, a line, or round dots."""

    css: str
    path: str
    kind: Literal["fill", "line", "dot"] = "fill"
    said: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing that stretches while its letters do not.

    height: in CSS pixels · left, right: labels at shares of the height, from the top · below: at shares of
    the width · wide: whether labels on the left are long.
    """

    title: str
    marks: Sequence[Mark]
    height: int
    left: Sequence[tuple[float, str]] = ()
    right: Sequence[tuple[float, str]] = ()
    below: Sequence[tuple[float, str]] = ()
    key: Sequence[tuple[str, str]] = ()
    wide: bool = False

    def __bool__(self) -> bool:
        return bool(self.marks)

    def __html__(self) -> str:
        return render("plot", self)


@dataclass(frozen=True, slots=True)
class Card:
    """An item of a gallery. key: its address · keys: what it is sorted by, in the order of the gallery's."""

    key: str
    title: str
    under: str
    body: object
    facts: tuple[tuple[str, str], ...] = ()
    keys: tuple[float | None, ...] = ()

    @property
    def values(self) -> tuple[str, ...]:
        """The keys as the script reads them: "none" for one that is none."""
        return tuple(sortable(key) or "none" for key in self.keys)


@dataclass(frozen=True, slots=True)
class Gallery:
    """Cards side by side, to be sorted by `sorts` and filtered."""

    cards: Sequence[Card]
    sorts: tuple[str, ...]
    name: str

    def __bool__(self) -> bool:
        return bool(self.cards)

    def __html__(self) -> str:
        return render("gallery", self)


@dataclass(frozen=True, slots=True)
class Node:
    """A line of a network. at: its place · colours: css classes · link: the address of more about it."""

    at: int
    name: str
    under: str
    figures: str
    colours: tuple[str, ...]
    keys: tuple[float | None, ...]
    link: str = ""
    marked: bool = False

    @property
    def values(self) -> tuple[str, ...]:
        """As those of a card."""
        return tuple(sortable(key) or "none" for key in self.keys)


@dataclass(frozen=True, slots=True)
class Network:
    """The nodes in their order, coloured; key: (css class, what the colour means)."""

    nodes: Sequence[Node]
    sorts: tuple[str, ...]
    key: tuple[tuple[str, str], ...]
    name: str = "nodes"

    def __bool__(self) -> bool:
        return bool(self.nodes)

    def __html__(self) -> str:
        return render("network", self)
