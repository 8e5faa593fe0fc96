"""The frame of every page: header, tabs, style and script; one file that loads nothing and sends nothing.

What is put into a template is text, and escaped, unless it is a part that renders itself (`__html__`). A
policy in the page lets no script run but those two whose digests it names.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from openbpu.arch.errors import printable

_HERE = Path(__file__).parent
_EARLY = 'document.documentElement.classList.add("js")'
"""Before anything is laid out: a browser need not lay out tabs that are hidden a moment later."""


@dataclass(frozen=True, slots=True)
class About:
    """What a page says of itself: when it was made, by which command, and what of (name, value)."""

    date: str = ""
    command: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    openbpu: str = field(default_factory=lambda: version("openbpu"))


@dataclass(frozen=True, slots=True)
class Tab:
    """A part of the page that is read on its own. key: its address, `#key` · parts: "" for nothing."""

    key: str
    title: str
    parts: tuple[object, ...]


def page(title: str, about: About, tabs: Iterable[Tab]) -> str:
    """Return a whole page as HTML text; tabs with nothing in them are left out."""
    shown = [tab for tab in tabs if any(tab.parts)]
    return _environment().get_template("frame.html").render(
        title=title,
        about=about,
        tabs=shown,
        style=Markup(_source("style.css")),  # noqa: S704  # our own file
        scripts=[Markup(_EARLY), Markup(_source("script.js"))],  # noqa: S704
    )  # fmt: skip


def render(macro: str, *values: object) -> Markup:
    """Return what a macro of `parts.html` makes of these values."""
    made = getattr(_environment().get_template("parts.html").module, macro)
    return Markup(made(*values))  # noqa: S704  # the macro escaped what it was given


@functools.cache
def _source(name: str) -> str:
    return "\n" + (_HERE / name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["digest"] = _digest
    return made


def _digest(script: str) -> str:
    """Return what a policy calls a script that may run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _harmless(value: Any) -> Any:
    """Write out what could turn the direction of a line or break it; parts render themselves."""
    return value if hasattr(value, "__html__") else printable(str(value))
