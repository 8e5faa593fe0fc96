"""Pieces of HTML and SVG; every text that comes from a model is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from openbpu.arch.errors import printable

ENGINES = ("LOAD", "STORE", "TAE", "AAE", "VAE", "VPU", "SPU", "TRANS")

STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")


def text(value: object) -> str:
    """Return a text as HTML: nothing in it is markup."""
    return escape(printable(str(value)))


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    numbers: Sequence[str] = (),
    long: Sequence[str] = (),
) -> str:
    """Return a table; columns in `numbers` are set to the right, those in `long` are wide. A cell is text."""
    kinds = [_kind(name in numbers, name in long) for name in head]
    top = "".join(f"<th{k}>{text(name)}</th>" for k, name in zip(kinds, head, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{k}>{text(cell)}</td>" for k, cell in zip(kinds, row, strict=True)) + "</tr>\n"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table></div>\n'


def _kind(is_number: bool, is_long: bool) -> str:
    return ' class="n"' if is_number else ' class="long"' if is_long else ""


def section(title: str, explained: str, *parts: str) -> str:
    """Return a headed part of the page; "" when there is nothing in it."""
    body = "".join(parts)
    return f"<section><h2>{text(title)}</h2>\n<p>{text(explained)}</p>\n{body}</section>\n" if body else ""


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """Return large figures, each with what it is."""
    inside = "".join(f'<div class="tile"><b>{text(v)}</b><span>{text(k)}</span></div>' for k, v in figures)
    return f'<div class="tiles">{inside}</div>\n'


def svg(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    """Return a drawing in these units, as wide as the page."""
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{text(title)}">{"".join(parts)}</svg>\n'
    )


def label(x: float, y: float, words: str, anchor: str = "start") -> str:
    """Return a text in a drawing."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text(words)}</text>'


def key(names: Iterable[str]) -> str:
    """Return a legend of engines by colour."""
    return f'<div class="key">{"".join(f"<i class={n.lower()}></i>{text(n)}" for n in names)}</div>\n'
