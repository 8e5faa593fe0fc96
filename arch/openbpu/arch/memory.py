"""How much memory there is: a size that a file claims is looked at before memory is taken for it."""

from __future__ import annotations

import os
from importlib import import_module

from openbpu.arch.errors import SimulationError, must


def check_fits(where: str, what: str, nbytes: int) -> None:
    """Raise SimulationError when this computer, or what this process may have of it, is smaller than that."""
    limit = memory_bytes()
    if limit is not None and nbytes > limit:
        raise does_not_fit(where, what, nbytes, limit)


def does_not_fit(where: str, what: str, nbytes: int, limit: int | None = None) -> SimulationError:
    """Return the error for memory that cannot be had."""
    allowed = "no more than this computer has" + ("" if limit is None else f" ({limit:,} bytes)")
    fix = "run it on a larger one; if no model is that large, something other than openbpu wrote the file"
    return SimulationError(must(where, what, allowed, f"{nbytes:,} bytes", fix))


def memory_bytes() -> int | None:
    """Return the physical memory or, if that is less, the limit of this process; None where nobody says."""
    found = [n for n in (_physical(), _allowed()) if n is not None and n > 0]
    return min(found, default=None)


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows; systems without these names
        return None


def _allowed() -> int | None:
    try:
        resource = import_module("resource")
    except ImportError:  # Windows
        return None
    soft: int = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if soft == resource.RLIM_INFINITY else soft
