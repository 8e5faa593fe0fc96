"""What users call a march: its own name in any spelling, or a product that it is in."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

_FAMILIES = ("horizon", "drobotics", "rdk", "sunrise", "digua")
_GENERATION = re.compile(r"(?:journey|j)j?(\d)")


def key_of(text: str) -> str:
    """Return what all spellings of one name have in common: "Journey 6E", "J6E" and "j6-e" give "j6e".

    The families that products are sold in are left out: "RDK X5" is "x5".
    """
    key = re.sub(r"[^a-z0-9]", "", text.lower())
    for family in _FAMILIES:
        key = key.removeprefix(family) or key
    return _GENERATION.sub(r"j\1", key, count=1) if _GENERATION.match(key) else key


def march_of(text: str, products: Mapping[str, tuple[str, ...]]) -> str | None:
    """Return the march that `text` calls, None when it calls none of them; `products` by march."""
    known = {key_of(product): name for name, made in products.items() for product in made}
    known |= {key_of(name): name for name in products}
    parts = text.split("/")  # "J6E / S100" is how the table of marches writes it
    found = {known.get(key_of(part)) for part in parts}
    return found.pop() if len(found) == 1 else None


def what_is_meant(text: str, products: Mapping[str, tuple[str, ...]]) -> str:
    """Return what to do about a name that calls no march: which ones it may stand for, or the nearest."""
    wanted = key_of(text)
    sold = [(product, name) for name, made in products.items() for product in made]
    begun = [f"{p} is {name}" for p, name in sold if len(wanted) > 1 and key_of(p).startswith(wanted)]
    begun = begun or [n for n in products if len(wanted) > 1 and key_of(n).startswith(wanted)]
    if begun:
        return f"say which: {', '.join(begun)}"
    known = {key_of(n): n for n in products} | {key_of(p): p for p, _ in sold}
    close = difflib.get_close_matches(wanted, known, n=1)
    shown = ", ".join(product for product, _ in sold)
    else_ = f"give a product ({shown}) or the path of a march file (*.json)"
    return f"did you mean '{known[close[0]]}'? Or {else_}" if close else else_
