"""Where items are worked on, and the one loop that everything goes through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from openbpu.arch.errors import InputError, must
from openbpu.evaluation.distribution.task import Item, Result, Task

if TYPE_CHECKING:
    from openbpu.evaluation.distribution.clusters import Cluster

MOST_WORKERS = 1024


class Pool:
    """Processes that work on items; used in a `with` block, for as many tasks as there are.

    workers: so many processes of this machine, 0 works in this process · scheduler: the address of a Dask
    cluster, as `tcp://host:8786` or, encrypted, `tls://…`, which takes the place of workers. Raises
    InputError where Dask is not installed, the cluster cannot be reached or its workers have another openbpu.
    """

    def __init__(self, *, workers: int = 0, scheduler: str = "") -> None:
        if type(workers) is not int or not 0 <= workers <= MOST_WORKERS:
            allowed = f"a whole number in 0..{MOST_WORKERS}"
            raise InputError(must("workers", "the number", allowed, repr(workers)))
        if workers and scheduler:
            fix = "a cluster has its own workers: leave the number out"
            raise InputError(must("workers", "the number", "0 with a scheduler", workers, fix))
        self._workers, self._scheduler = workers, scheduler
        self._cluster: Cluster | None = None

    @property
    def is_here(self) -> bool:
        """Whether everything is done in this process."""
        return not (self._workers or self._scheduler)

    def __enter__(self) -> Pool:  # noqa: PYI034  # typing.Self is new in Python 3.11
        if not self.is_here:
            # Imported here: Dask is an extra, and takes half a second.
            from openbpu.evaluation.distribution import clusters  # noqa: PLC0415

            self._cluster = clusters.start(self._workers, self._scheduler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def sees(self, paths: Sequence[Path]) -> bool:
        """Whether every worker finds these files, of the same size: what it finds need not be sent."""
        return self.is_here or self._started().sees(paths)

    def run(
        self,
        task: Task[Item, Result],
        items: Sequence[Item],
        on_result: Callable[[int, Result], None] | None = None,
    ) -> list[Result]:
        """Return the result of every item, in their order.

        `on_result(number of the item, result)` is called in this thread as results come, in any order, once
        for each. What a worker had not finished when it ended is done again, by another one. The first item
        that fails ends the run with its error.
        """
        done: dict[int, Result] = {}

        def take(number: int, result: Result) -> None:
            if number in done:
                return
            done[number] = result
            if on_result is not None:
                on_result(number, result)

        if items and self.is_here:
            work = task.open()
            for number in range(len(items)):
                take(number, work(items[number]))
        elif items:
            self._started().run(task, items, take)
        return [done[number] for number in range(len(items))]

    def _started(self) -> Cluster:
        if self._cluster is None:
            raise InputError("workers: a pool works inside its `with` block only; open it with `with`")
        return self._cluster


def run_all(
    task: Task[Item, Result],
    items: Sequence[Item],
    *,
    workers: int = 0,
    scheduler: str = "",
    on_result: Callable[[int, Result], None] | None = None,
) -> list[Result]:
    """Return the result of every item, in their order: `Pool.run` with a pool of its own."""
    with Pool(workers=workers, scheduler=scheduler) as pool:
        return pool.run(task, items, on_result)
