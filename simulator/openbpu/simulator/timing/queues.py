"""The event engine as the simulator runs it: compiled where that pays."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from openbpu.arch import events

_SMALL = 40_000
"""Up to this many instructions Python's run (5 µs each) costs less than loading LLVM and the compiled one."""

_COMPILED = "openbpu.simulator.timing.compiled"


@dataclass(slots=True)
class _Tally:
    """Instructions that this process has run in Python: many small programs are worth the import too."""

    instructions: int = 0


_IN_PYTHON = _Tally()


class Queues(events.Queues):
    """All instructions of a segment sorted by queue; see `openbpu.arch.events.Queues`."""

    def engine_of(self, tables: events.Tables, runs: int) -> Callable[[], int]:
        """Return what runs the engine on the tables, compiled where so many runs pay for it."""
        n = len(self.order)
        if _IN_PYTHON.instructions + n * runs <= _SMALL and _COMPILED not in sys.modules:
            _IN_PYTHON.instructions += n
            return super().engine_of(tables, runs)
        found: Callable[[], int] = _compiled()(tables)
        return found


def _compiled() -> Any:
    from openbpu.simulator.timing.compiled import engine_of  # noqa: PLC0415 - loads LLVM

    return engine_of
