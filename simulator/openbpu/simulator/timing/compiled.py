"""The event engine compiled by numba; importing this costs numba's start-up, so only `simulate` does."""

from __future__ import annotations

from typing import Any

from numba import njit

from openbpu.arch.events import run


def _compiled() -> Any:
    try:
        return njit(cache=True)(run)
    except RuntimeError:  # no directory for the cache can be written
        return njit(run)


run_compiled = _compiled()
