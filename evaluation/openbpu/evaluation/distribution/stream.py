"""Items to the workers of a Dask cluster, a few at a time, and their results back."""

from __future__ import annotations

import contextlib
import math
import sys
import time
import uuid
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any

import cloudpickle
from distributed import Client, Future, KilledWorker, as_completed

from openbpu.arch.errors import InputError
from openbpu.evaluation.distribution.remote import Carrier, Done, raised, work_on
from openbpu.evaluation.distribution.task import Take, Task

_AIM = 1.0
"""Seconds that a worker should be busy with what it gets at once: short for progress, long for less talk."""

_AHEAD = 3
"""Shares that a thread has at a time: one in work, one that waits beside it, one with the scheduler."""

_COUNT_AFTER = 2.0
"""Seconds after which the threads of the cluster are counted again: workers come and go."""

_MOST = 1024
"""Items in a share, at most: what has to be done again when a worker ends."""


class Stream:
    """One run of a task over items.

    The task travels once to every worker, and to each that joins later, before that gets any item. Items are
    handed out as workers ask for them; a share whose worker ends is handed out again by Dask.
    """

    def __init__(
        self, where: str, client: Client, task: Task[Any, Any], items: Sequence[Any], take: Take
    ) -> None:
        self._where, self._client, self._items, self._take = where, client, items, take
        self._key = f"openbpu-{uuid.uuid4().hex}"
        self._carrier = Carrier(self._key, _pickled(task))
        self._todo = deque(range(len(items)))
        self._alone: deque[int] = deque()
        self._out: dict[str, tuple[Future, list[int]]] = {}
        self._share = 1
        self._threads, self._counted_at = 1, -math.inf

    def run(self) -> None:
        """Work through all items; raises the error of the first that fails."""
        self._client.register_plugin(self._carrier, name=self._key)
        coming = as_completed(loop=self._client.loop)
        try:
            while self._todo or self._alone or self._out:
                self._hand_out(coming)
                self._receive(next(coming))
        finally:
            with contextlib.suppress(Exception):  # the cluster may be gone
                self._client.cancel([future for future, _ in self._out.values()])
                self._client.unregister_worker_plugin(self._key)

    def _hand_out(self, coming: as_completed) -> None:
        if self._client.status != "running":
            fix = "start it again; a run with --records FILE goes on with --resume FILE"
            raise InputError(f"{self._where}: the connection was lost; {fix}")
        room = _AHEAD * self._threads_now() - len(self._out)
        for _ in range(room):
            numbers = self._next()
            if not numbers:
                return
            # As bytes: Dask would send every array of every item as a frame of its own.
            share = cloudpickle.dumps([(n, self._items[n]) for n in numbers])
            future = self._client.submit(work_on, self._key, share, pure=False)
            self._out[future.key] = (future, numbers)
            coming.add(future)

    def _next(self) -> list[int]:
        """Return the items of the next share, a suspected one by itself; none when all are out."""
        if self._alone:
            return [self._alone.popleft()]
        return [self._todo.popleft() for _ in range(min(self._share, len(self._todo)))]

    def _threads_now(self) -> int:
        now = time.monotonic()
        if now - self._counted_at > _COUNT_AFTER:
            self._threads, self._counted_at = max(1, sum(self._client.nthreads().values())), now
        return self._threads

    def _receive(self, future: Future) -> None:
        _, numbers = self._out.pop(future.key)
        try:
            found: Done = future.result()  # also of one that is finished the worker may have ended meanwhile
        except KilledWorker as error:
            self._suspect(numbers, error)
            return
        except CancelledError:  # forgotten by the scheduler: nothing of it has been counted
            self._todo.extendleft(reversed(numbers))
            return
        except Exception as error:  # Dask's own, such as what a worker cannot load
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise InputError(f"{self._where}: {why}; look into the workers' logs") from error
        for number, result in found.results:
            self._take(number, result)
        if found.failure is not None:
            raise raised(found.failure)
        self._share = _next_share(self._share, len(numbers), found.seconds)

    def _suspect(self, numbers: list[int], error: KilledWorker) -> None:
        """Hand the items of a share that several workers ended on out again, one by one; or name the one."""
        if len(numbers) > 1:
            self._alone.extend(numbers)
            return
        fix = "it may need more memory than there is: use fewer workers, or look at that item"
        raise InputError(
            f"{self._where}: the worker's process ended each time it got item {numbers[0]}; {fix}"
        ) from error


def _pickled(task: Task[Any, Any]) -> bytes:
    """Return a task as bytes; the modules it names in `modules` go with it, for a worker that lacks them."""
    modules = {sys.modules[name] for name in getattr(task, "modules", ())}
    modules = {m for m in modules if m.__name__ not in cloudpickle.list_registry_pickle_by_value()}
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(task))
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _next_share(share: int, done: int, seconds: float) -> int:
    """Return how many items come next to a worker that needed `seconds` for `done` of them."""
    fitting = int(_AIM / max(seconds / max(done, 1), 1e-6))
    return max(1, min(fitting, 2 * share, _MOST))
