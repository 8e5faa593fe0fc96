"""One fault at a time in a tree of its own, and the tests that should notice it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import pytest

from mutants.sites import ROOTS, Site


class Verdict(Enum):
    """What became of a fault."""

    KILLED = "killed"
    ENDLESS = "killed by its time limit"
    SURVIVED = "survived"


def copy_tree(source: Path, target: Path) -> None:
    """Copy what the tests need of a checkout, without environments and caches."""
    skipped = shutil.ignore_patterns(".*", "__pycache__", "out", "dist", "build")
    shutil.copytree(source, target, ignore=skipped, symlinks=True)


@contextlib.contextmanager
def fault(tree: Path, site: Site) -> Iterator[None]:
    """Put the fault into the tree, and take it out again.

    Its time stamp lies in the future of the whole one's, so that no compiled module is taken for it.
    """
    path, text = tree / site.module, site.mutated(tree)
    whole, stamp = path.read_bytes(), path.stat().st_mtime
    try:
        path.write_text(text, encoding="utf-8")
        os.utime(path, (stamp + 1000, stamp + 1000))
        yield
    finally:
        path.write_bytes(whole)
        os.utime(path, (stamp, stamp))


def try_out(tree: Path, site: Site, tests: list[str], limit: float) -> Verdict:
    """Run `tests` with the fault in the tree until one fails; `limit` is in seconds."""
    chosen = tree / "chosen-tests.txt"
    chosen.write_text("\n".join(tests), encoding="utf-8")
    with fault(tree, site):
        child = os.fork()  # numpy, onnx, numba and pytest are there already: half of a short run
        if not child:
            os._exit(_run_tests(tree, chosen))
        return _wait(child, limit)


def _run_tests(tree: Path, chosen: Path) -> int:
    """Run the chosen tests in this process, silently, in a group of its own; returns pytest's exit code."""
    os.setpgid(0, 0)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.chdir(tree)
    os.environ["OPENBPU_CACHE_DIR"] = str(tree / "kernels")
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    sys.path[:] = [*(str(tree / r) for r in (*ROOTS, "tests")), *(p for p in sys.path if not _ours(p))]
    try:
        return int(
            pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "slow or not slow", f"@{chosen}"])
        )
    except BaseException:  # noqa: BLE001  # a fault may raise anything, while modules are imported as well
        return 1


def _ours(path: str) -> bool:
    """Whether a path on sys.path leads to sources of a checkout: those of the tree come instead."""
    return (Path(path) / "openbpu").is_dir()


def _wait(child: int, limit: float) -> Verdict:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            passed = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
            return Verdict.SURVIVED if passed else Verdict.KILLED
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return Verdict.ENDLESS
