"""Helper threads shared by every segment of the process: they sleep until a run offers them its work.

A run never needs them. It takes part itself, and what a helper did not begin it does alone; so any number of
runs may compete for the helpers, and a helper that wakes too late finds the run closed and goes back to
sleep.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

Task = Callable[[], None]

_LAST_WAIT = 2.0
"""Seconds that the interpreter's exit waits for helpers that are still inside a kernel."""


class Helpers:
    """A pool that only grows, made of daemon threads."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Task] = SimpleQueue()
        self._lock = threading.Lock()
        self._count = 0
        self._busy: set[int] = set()

    def ensure(self, count: int) -> None:
        """Have at least `count` threads."""
        with self._lock:
            while self._count < count:
                name = f"openbpu-{self._count}"
                threading.Thread(target=self._work, args=(self._count,), name=name, daemon=True).start()
                self._count += 1

    def offer(self, task: Task) -> None:
        """Let one thread run `task`, some time."""
        self._queue.put(task)

    def _work(self, number: int) -> None:
        while True:
            task = self._queue.get()
            self._busy.add(number)
            task()
            del task  # it holds a workspace
            self._busy.discard(number)

    def settle(self) -> None:
        """Wait until no thread is inside a kernel: at exit the kernels' code is freed."""
        end = time.monotonic() + _LAST_WAIT
        while self._busy and time.monotonic() < end:
            time.sleep(0.001)


_helpers = Helpers()


def helpers() -> Helpers:
    """Return the pool of this process."""
    return _helpers


def _after_fork() -> None:
    global _helpers  # noqa: PLW0603 - threads do not survive a fork; the child begins with a new pool
    _helpers = Helpers()


@atexit.register
def _settle() -> None:
    _helpers.settle()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
