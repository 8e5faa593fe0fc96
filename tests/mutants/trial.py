"""One fault at a time in a tree of its own, and the tests that should notice it."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path

import pytest

from mutants.killers import FILE, FirstFailure
from mutants.sites import ROOTS, Site

_OUTPUT = "output-of-tests.txt"
_MEMORY = 12 << 30  # bytes of address space; numba and ONNX Runtime reserve some without using it

Tests = Mapping[str, float]
"""Names of tests, in the order they are run, and the seconds that each takes without a fault."""


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


def try_out(tree: Path, site: Site, tests: Tests) -> Verdict:
    """Run `tests` with the fault in the tree until one fails or does not end."""
    with fault(tree, site):
        return _run(tree, tests)


def failing_without_fault(tree: Path, tests: Tests) -> list[str]:
    """Return those of `tests` that fail in a whole tree, run as a trial runs them: they prove nothing.

    Raises RuntimeError when pytest does not run at all, which would kill every fault.
    """
    left, failing = dict(tests), list[str]()
    while left and _run(tree, left) is not Verdict.SURVIVED:
        name = killer(tree)
        if name not in left:
            raise RuntimeError(
                f"the tests must run without a fault; {name or 'pytest'} does not:\n{said(tree)}"
            )
        failing.append(name)
        del left[name]
    return failing


def killer(tree: Path) -> str:
    """Return the test that failed in the last run; "" when none was reached."""
    path = tree / FILE
    return path.read_text(encoding="utf-8") if path.exists() else ""


def said(tree: Path) -> str:
    """Return the end of what the last run printed."""
    return (tree / _OUTPUT).read_text(encoding="utf-8", errors="replace")[-2000:]


def _run(tree: Path, tests: Tests) -> Verdict:
    """Run `tests` in a fork of this process until one fails."""
    (tree / FILE).unlink(missing_ok=True)
    child = os.fork()  # numpy, onnx, numba and pytest are there already: half of a short run
    if not child:
        os._exit(_run_tests(tree, tests))
    return _verdict(child)


def _run_tests(tree: Path, tests: Tests) -> int:
    """Run the tests in this process, silently, in a group of its own; returns pytest's exit code."""
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    output = os.open(tree / _OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.chdir(tree)
    os.environ["OPENBPU_CACHE_DIR"] = str(tree / "kernels")
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    sys.path[:] = [*(str(tree / r) for r in (*ROOTS, "tests")), *(p for p in sys.path if not _ours(p))]
    try:
        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "slow or not slow"]
        files = dict.fromkeys(name.partition("::")[0] for name in tests)
        return int(pytest.main([*options, *files], [FirstFailure(Path(FILE), tests)]))
    except BaseException:  # noqa: BLE001  # a fault may raise anything, while modules are imported as well
        traceback.print_exc()
        return 1


def _ours(path: str) -> bool:
    """Whether a path on sys.path leads to sources of a checkout: those of the tree come instead."""
    return (Path(path) / "openbpu").is_dir()


def _verdict(child: int) -> Verdict:
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what the tests began and a killed process left
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return Verdict.ENDLESS
    return Verdict.SURVIVED if status == 0 else Verdict.KILLED
