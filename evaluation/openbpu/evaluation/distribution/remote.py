"""What happens on a worker: the task is opened once, results and errors are turned into what can travel."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cloudpickle
from distributed import Worker, WorkerPlugin

from openbpu.arch import errors
from openbpu.arch.errors import InternalError, OpenbpuError


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as its class, among those of openbpu, and its message."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """What a worker made of its share: results by number of the item, and the error that ended it early."""

    results: list[tuple[int, Any]]
    failure: Failure | None
    seconds: float


class Carrier(WorkerPlugin):
    """Brings a task to every worker of a cluster, once; the scheduler gives it to those that join later."""

    def __init__(self, key: str, task: bytes) -> None:
        self.key, self.task = key, task

    def setup(self, worker: Worker) -> None:  # noqa: ARG002  # Dask's signature
        """Keep the task until the first item comes."""
        _carried[self.key] = _Carried(self.task)

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002  # Dask's signature
        """Forget the task and what it opened."""
        _carried.pop(self.key, None)


class _Carried:
    """A task on this worker, opened by the first item."""

    def __init__(self, task: bytes) -> None:
        self._task, self._lock = task, threading.Lock()
        self._work: Callable[[Any], Any] | None = None

    def work(self) -> Callable[[Any], Any]:
        with self._lock:
            if self._work is None:
                self._work = cloudpickle.loads(self._task).open()
            return self._work


_carried: dict[str, _Carried] = {}


def work_on(key: str, share: bytes) -> Done:
    """Return what the task makes of a share: items with their numbers, as bytes.

    An error ends the share, and travels as words.
    """
    started = time.perf_counter()
    results = []
    failure = None
    try:
        work = _carried[key].work()
        for number, item in cloudpickle.loads(share):
            results.append((number, work(item)))
    except OpenbpuError as error:
        failure = Failure(type(error).__name__, str(error))
    except MemoryError:
        failure = Failure("InputError", "workers: not enough memory on a worker; use fewer workers")
    except Exception as error:  # noqa: BLE001  # it is raised again where the user is
        failure = Failure("InternalError", str(InternalError("workers", error)))
    return Done(results, failure, time.perf_counter() - started)


def raised(failure: Failure) -> OpenbpuError:
    """Return the error of a worker as one of this process, of the same class."""
    kind = getattr(errors, failure.kind, OpenbpuError)
    error: OpenbpuError = kind.__new__(kind)  # its own arguments are lost: the message is what counts
    Exception.__init__(error, failure.message)
    return error
