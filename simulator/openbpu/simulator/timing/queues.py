"""The event engine as the simulator runs it: compiled where that pays."""

from __future__ import annotations

import sys
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

    def _fill_in(self, tables: tuple[Any, ...], runs: int) -> int:
        n = len(self.order)
        if _IN_PYTHON.instructions + n * runs <= _SMALL and _COMPILED not in sys.modules:
            _IN_PYTHON.instructions += n
            return super()._fill_in(tables, runs)
        return int(_compiled()(*tables))


def _compiled() -> Any:
    from openbpu.simulator.timing.compiled import run_compiled  # noqa: PLC0415 - loads LLVM

    return run_compiled
