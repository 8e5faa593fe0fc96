"""The event engine of `arch.events`, as machine code that loads without numba: its tables are arrays here."""

from __future__ import annotations

from openbpu.arch.events import run
from openbpu.simulator.fast.language.lang import export, types

_TABLES = 17

export("events", types.int64(*[types.int64[::1]] * _TABLES), run)
