"""A task over items: the same results wherever they are made, each once, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from openbpu.arch.errors import HbmError, InputError, InternalError
from openbpu.evaluation.distribution import Pool, Ready, run_all


@dataclass
class Squares:
    """Returns (x², the process); x = `bad` is refused, x = `odd` meets a bug."""

    seconds: float = 0.0
    bad: int = -1
    odd: int = -1

    def open(self) -> Callable[[int], tuple[int, int]]:
        def work(x: int) -> tuple[int, int]:
            time.sleep(self.seconds)
            if x == self.bad:
                raise HbmError("squares: it is damaged")
            if x == self.odd:
                raise ZeroDivisionError("oh")
            return x * x, os.getpid()

        return work


@dataclass
class Ends:
    """Ends the process that gets item 3."""

    def open(self) -> Callable[[int], int]:
        def work(x: int) -> int:
            if x == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return x

        return work


TWICE = """
import dask
from openbpu.evaluation.distribution import Ready, run_all
if __name__ == "__main__":
    for _ in range(2):
        assert run_all(Ready(abs), [-1, 2], workers=1) == [1, 2]
    assert dask.config.get("distributed.worker.profile.enabled") is True
    print("twice")
"""
"""Dask's settings are as they were behind a pool, though the pool is the first to import it."""


def squares(results: list[tuple[int, int]]) -> list[int]:
    return [x for x, _ in results]


def test_without_workers_everything_is_done_here_in_order() -> None:
    seen: list[int] = []
    made = run_all(Squares(), range(5), on_result=lambda n, _: seen.append(n))
    assert squares(made) == [0, 1, 4, 9, 16]
    assert {pid for _, pid in made} == {os.getpid()}
    assert seen == [0, 1, 2, 3, 4]


def test_an_open_task_is_not_opened_again() -> None:
    work = Squares().open()
    assert Ready(work).open() is work
    assert squares(run_all(Ready(work), [3])) == [9]


def test_nothing_to_do_is_no_error() -> None:
    assert run_all(Squares(), []) == []


@pytest.mark.parametrize("workers", [-1, 1.5, True, 100_000])
def test_a_wrong_number_of_workers_is_refused(workers: int) -> None:
    with pytest.raises(InputError, match=r"workers: the number must be a whole number in 0\.\.1024, not"):
        Pool(workers=workers)


def test_workers_and_a_scheduler_exclude_each_other() -> None:
    with pytest.raises(InputError, match="must be 0 with a scheduler, not 2"):
        Pool(workers=2, scheduler="tcp://127.0.0.1:8786")


def test_a_pool_works_in_its_block_only() -> None:
    with pytest.raises(InputError, match="with"):
        Pool(workers=1).run(Squares(), [1])


def test_without_the_extra_its_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "distributed" else name)
    with pytest.raises(
        InputError, match=r"--workers: the package distributed must be installed.*openbpu\[dask\]"
    ):
        run_all(Squares(), [1], workers=1)


def test_a_pool_of_this_process_imports_no_dask() -> None:
    from interfaces.conftest import printed_by

    script = """
import sys
from openbpu.evaluation.distribution import Ready, run_all
assert run_all(Ready(abs), [-1]) == [1]
print(sorted({"dask", "distributed", "socket"} & set(sys.modules)))
"""
    assert printed_by(script).strip() == "[]"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pytest.importorskip("distributed", reason="needs the extra openbpu[dask]")
    pytest.importorskip("cryptography", reason="needs the extra openbpu[dask]")
    with Pool(workers=2) as made:
        yield made


def addresses_of(pids: set[int]) -> set[str]:
    """Where these processes listen."""
    import psutil

    kinds = (psutil.CONN_LISTEN,)
    found = [c for pid in pids for c in psutil.Process(pid).net_connections() if c.status in kinds]
    return {c.laddr.ip for c in found}


@pytest.mark.slow
def test_workers_give_what_one_process_gives(pool: Pool) -> None:
    seen: list[int] = []
    made = pool.run(Squares(0.002), range(300), lambda n, _: seen.append(n))
    assert squares(made) == [x * x for x in range(300)]
    assert sorted(seen) == list(range(300))
    pids = {pid for _, pid in made}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert addresses_of({*pids, os.getpid()}) == {"127.0.0.1"}


@pytest.mark.slow
def test_an_error_of_a_worker_is_raised_here_as_what_it_was(pool: Pool) -> None:
    with pytest.raises(HbmError, match=r"^squares: it is damaged$"):
        pool.run(Squares(bad=7), range(20))
    with pytest.raises(InternalError, match="ZeroDivisionError: oh"):
        pool.run(Squares(odd=7), range(20))
    assert squares(pool.run(Squares(), range(3))) == [0, 1, 4]  # and the pool goes on


@pytest.mark.slow
def test_nobody_else_may_talk_to_the_workers(pool: Pool) -> None:
    from distributed import Client

    address = pool._started()._client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    with pytest.raises((OSError, ValueError, TypeError)):
        Client(address, timeout=2)


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(pool: Pool) -> None:
    """kill -9 while it works: its share is done again, and every item counts once."""
    seen: list[int] = []
    killed: list[int] = []

    def on_result(number: int, result: tuple[int, int]) -> None:
        seen.append(number)
        if len(seen) == 10:
            killed.append(result[1])
            os.kill(result[1], signal.SIGKILL)

    made = pool.run(Squares(0.02), range(200), on_result)
    assert squares(made) == [x * x for x in range(200)]
    assert sorted(seen) == list(range(200))
    assert killed
    assert len({pid for _, pid in made}) >= 2


@pytest.mark.slow
def test_all_workers_may_be_killed_again_and_again(pool: Pool) -> None:
    """Also more often than a share may see its worker end: then its items are done one by one."""
    psutil = pytest.importorskip("psutil", reason="comes with openbpu[dask]")
    seen: list[int] = []

    def on_result(number: int, _: tuple[int, int]) -> None:
        seen.append(number)
        if len(seen) in {20, 40, 60}:
            for child in psutil.Process().children(recursive=True):
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()

    assert squares(pool.run(Squares(0.02), range(100), on_result)) == [x * x for x in range(100)]
    assert sorted(seen) == list(range(100))


@pytest.mark.slow
def test_a_pool_leaves_dask_as_it_was(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the extra openbpu[dask]")
    (tmp_path / "twice.py").write_text(TWICE)
    env = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PATH": os.environ["PATH"]}
    command = [sys.executable, str(tmp_path / "twice.py")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("twice\n", "")


@pytest.mark.parametrize(
    ("share", "done", "seconds", "expected"),
    [(1, 1, 0.001, 2), (64, 64, 1.0, 64), (8, 8, 8.0, 1), (1024, 1024, 0.0, 1024), (4, 4, 0.5, 8)],
)
def test_shares_grow_to_a_second_of_work(share: int, done: int, seconds: float, expected: int) -> None:
    pytest.importorskip("distributed", reason="needs the extra openbpu[dask]")
    from openbpu.evaluation.distribution.stream import _next_share

    assert _next_share(share, done, seconds) == expected


@pytest.mark.slow
def test_an_item_that_ends_every_worker_is_named(pool: Pool) -> None:
    with pytest.raises(InputError, match=r"2 workers: the worker's process ended each time it got item 3;"):
        pool.run(Ends(), range(20))


@pytest.mark.slow
def test_a_cluster_that_exists_does_the_work() -> None:
    pytest.importorskip("distributed", reason="needs the extra openbpu[dask]")
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0") as cluster:
        made = run_all(Squares(0.001), range(50), scheduler=cluster.scheduler_address)
    assert squares(made) == [x * x for x in range(50)]


@pytest.mark.slow
def test_a_cluster_with_another_openbpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="needs the extra openbpu[dask]")
    from distributed import LocalCluster

    monkeypatch.setattr("openbpu.evaluation.distribution.clusters._own_version", lambda: "0.0.1")
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        address = cluster.scheduler_address
        with pytest.raises(
            InputError, match=rf"scheduler {address}: openbpu on worker .* must be 0\.0\.1, not"
        ):
            run_all(Squares(), [1], scheduler=address)


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="needs the extra openbpu[dask]")
    monkeypatch.setattr("openbpu.evaluation.distribution.clusters._SECONDS", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(InputError, match=f"scheduler {address}: a Dask scheduler must be reachable"):
        run_all(Squares(), [1], scheduler=address)
