"""The one way this reader says no."""

from __future__ import annotations

from openbpu.arch.errors import ModelError, must


def problem(place: str, what: str, allowed: object, found: object, fix: str = "") -> ModelError:
    """Return the error to raise: `<place>: <what> must be <allowed>, not <found>; <fix>`."""
    return ModelError(must(place, what, allowed, found, fix))
