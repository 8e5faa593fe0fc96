"""Optimisation levels as the vendor writes them."""

from __future__ import annotations


def level(opt: int | str) -> int:
    """Return an optimisation level: the vendor writes 2 or "O2", and its higher ones are our highest."""
    digits = str(opt).lower().removeprefix("o")
    return min(int(digits), 2) if digits.isdigit() else -1
