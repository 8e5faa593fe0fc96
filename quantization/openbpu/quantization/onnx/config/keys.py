"""Keys of a mapping: each stands there once, in JSON as in YAML."""

from __future__ import annotations

from typing import Any


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a mapping; raises ValueError for a key that stands there twice."""
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key '{key}' stands there twice")
        made[key] = value
    return made
