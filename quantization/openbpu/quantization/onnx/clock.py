"""Where the time goes: seconds by stage, taken from what long work reports anyway."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """A progress callback that passes on what it hears and adds up the time between two calls.

    The time belongs to the stage that is reported at its end. `seconds`: by stage, in order.
    """

    def __init__(self, heard: Callable[[str, int, int], None]) -> None:
        self._heard = heard
        self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Hear that `done` of `total` steps of a stage are done."""
        self._heard(stage, done, total)
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
