"""Dask clusters: processes of this machine, or one that somebody else has started.

Whoever can reach a Dask scheduler can run code on its workers. So the local one listens on this machine only
and speaks TLS with a key that exists in memory, for this run; it serves no dashboard.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from openbpu.arch.errors import InputError, must
from openbpu.evaluation.distribution.task import Take, Task

_EXTRA = "pip install 'openbpu[dask]'"
_HERE = "127.0.0.1"
_SECONDS = 30
"""How long a cluster may take to answer, and to have its first worker."""

_LOST = 60
"""Seconds that a worker that ended has to start again, before another takes its place: machines are slow."""

_LOOK = 2.0
"""Seconds between two looks at whether all workers are there."""

_QUIET = {
    "distributed.scheduler.http.routes": [],  # nothing is served but the work itself
    "distributed.worker.http.routes": [],
    "distributed.worker.use-file-locking": False,
    "distributed.logging": {"distributed": "critical"},
    "distributed.deploy.lost-worker-timeout": f"{_LOST}s",
    # What nobody looks at here, and costs every process some percent of a core:
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.tick.cycle": "10s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.gil.enabled": False,
}


class Cluster:
    """A client of a scheduler, and the processes behind it where they are ours."""

    def __init__(self, where: str, client: Any, own: contextlib.ExitStack) -> None:
        self._where, self._client, self._own = where, client, own

    def run(self, task: Task[Any, Any], items: Sequence[Any], take: Take) -> None:
        """Give every result to `take`; raises the error of the first item that fails."""
        from openbpu.evaluation.distribution.stream import Stream  # noqa: PLC0415  # it needs Dask

        Stream(self._where, self._client, task, items, take).run()

    def sees(self, paths: Sequence[Path]) -> bool:
        """Whether every worker finds these files, of the same size."""
        sizes = {str(path.resolve()): path.stat().st_size for path in paths}
        return all(self._client.run(_all_there, sizes).values())

    def close(self) -> None:
        """Leave the cluster; end the processes that are ours."""
        self._own.close()


def start(workers: int, scheduler: str) -> Cluster:
    """Return a cluster that is ready to work; raises InputError."""
    missing = [name for name in ("distributed", "cryptography") if importlib.util.find_spec(name) is None]
    if missing:
        what = "--scheduler" if scheduler else "--workers"
        raise InputError(must(what, f"the package {missing[0]}", "installed", "missing", _EXTRA))
    import dask  # noqa: PLC0415  # an extra
    import distributed  # noqa: F401, PLC0415  # its own settings must be there before some are set for a while

    own = contextlib.ExitStack()
    try:
        own.enter_context(dask.config.set(_QUIET))
        own.enter_context(_silence())
        return _existing(scheduler, own) if scheduler else _local(workers, own)
    except BaseException:
        own.close()
        raise


def _local(workers: int, own: contextlib.ExitStack) -> Cluster:
    from distributed import Client, LocalCluster  # noqa: PLC0415  # an extra
    from distributed.security import Security  # noqa: PLC0415

    where = f"{workers} worker{'' if workers == 1 else 's'}"
    with _interrupts_wait():
        cluster = own.enter_context(
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                host=_HERE,
                security=Security.temporary(),
                dashboard_address=f"{_HERE}:0",
                scheduler_kwargs={"dashboard": False},
                memory_limit=0,  # a model may need more than its share; what the machine has is the limit
                silence_logs=logging.CRITICAL,
            )
        )
        own.enter_context(_kept_whole(cluster, workers))
        client = own.enter_context(Client(cluster, timeout=_SECONDS, set_as_default=False))
    return Cluster(where, client, own)


@contextlib.contextmanager
def _kept_whole(cluster: Any, workers: int) -> Iterator[None]:
    """Replace, while the block runs, workers that ended for good.

    Dask starts a worker again that ends, but not where that fails or takes too long: one that is killed as it
    starts would be missing from then on, and work would wait for ever where it was the last.
    """
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK):
            cluster.scale(workers)

    watch = threading.Thread(target=look, name="openbpu workers", daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def _existing(address: str, own: contextlib.ExitStack) -> Cluster:
    from distributed import Client  # noqa: PLC0415  # an extra

    where = f"scheduler {address}"
    fix = "check the address, and that the scheduler runs (`dask scheduler`)"
    try:
        client = own.enter_context(Client(address, timeout=_SECONDS, set_as_default=False))
    except (OSError, ValueError, TypeError, ImportError) as error:
        why = " ".join(str(error).split())
        raise InputError(must(where, "a Dask scheduler", "reachable", f"({why})", fix)) from error
    try:
        client.wait_for_workers(1, timeout=_SECONDS)
    except TimeoutError as error:
        fix = f"start one: `dask worker {address}`"
        raise InputError(must(where, "the number of its workers", "at least 1", 0, fix)) from error
    _check_versions(where, client)
    return Cluster(where, client, own)


def _check_versions(where: str, client: Any) -> None:
    """Refuse workers that would compute something else."""
    ours = _own_version()
    # A function of Python's own: on a worker without openbpu none of ours can run.
    for worker, theirs in client.run(version, "openbpu", on_error="return").items():
        if theirs != ours:
            found = "missing" if isinstance(theirs, Exception) else theirs
            fix = "install the same version on every worker"
            raise InputError(must(where, f"openbpu on worker {worker}", ours, found, fix))


def _own_version() -> str:
    return version("openbpu")


def _all_there(sizes: dict[str, int]) -> bool:
    return all(Path(p).is_file() and Path(p).stat().st_size == size for p, size in sizes.items())


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block, and keep it from the processes that are started in it.

    The terminal sends it to all of them. They inherit that it is blocked, also those that the cluster's own
    thread starts later; this process alone takes it, and ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it unblocks the signal as it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep Dask's log off the terminal: what matters to the user is said by whoever asked."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
