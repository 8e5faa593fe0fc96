"""The event engine as machine code: a kernel like those of the fast simulator, kept where those are."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.simulator.fast.jit.library import library

_WORD = ctypes.c_int64
_STEP = 8  # bytes


@lru_cache(maxsize=1)
def _function(words: int) -> Any:
    return ctypes.CFUNCTYPE(ctypes.c_int32, *[_WORD] * words)(library().address("events", "run"))


def engine_of(tables: tuple[Int64, ...]) -> Callable[[], int]:
    """Return what runs `openbpu.arch.events.run` on its tables, contiguous int64 arrays, in place."""
    # numba's convention: pointers for the result and an error, then of each array owner, parent, number and
    # size of its elements, address, shape and strides.
    words = [w for t in tables for w in (0, 0, t.size, _STEP, t.ctypes.data, t.size, _STEP)]
    made = np.zeros(2, dtype=np.int64)
    at = made.ctypes.data
    given = tuple([_WORD(word) for word in (at, at + _STEP, *words)])
    function = _function(len(given))

    def engine(alive: tuple[Int64, ...] = tables) -> int:  # noqa: ARG001 - whose memory it works on
        function(*given)
        return int(made[0])

    return engine
