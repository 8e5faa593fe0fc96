"""Whether helpers pay. The bits are the same either way, so the times decide.

On a busy machine a helper that is taken off its core in the middle of a chunk costs more than it brings, and
for a tiny segment waking it does.
"""

from __future__ import annotations

import threading
from collections import deque
from statistics import median

_MEMORY = 7
_FIRST_PROBES = 6
_PROBE_EVERY = 24


class Pace:
    """Remembers how long the last runs took with and without helpers; now and then tries the slower way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[bool, deque[float]] = {way: deque(maxlen=_MEMORY) for way in (False, True)}
        self._runs = 0

    def shared_now(self) -> bool:
        """Return whether the next run shall ask for help."""
        with self._lock:
            run, self._runs = self._runs, self._runs + 1
            alone, shared = self._seconds[False], self._seconds[True]
            if run < _FIRST_PROBES or not alone or not shared:
                return run % 2 == 0
            better = median(shared) <= median(alone)
            return better != (run % _PROBE_EVERY == 0)

    def record(self, *, shared: bool, seconds: float) -> None:
        """Remember a run."""
        with self._lock:
            self._seconds[shared].append(seconds)
