"""Cases run in a child process, so that a crash, a hang or a flood of memory is a fault like any other.

The child takes case after case and writes on a board where it is. CPU time is limited per case by a timer of
the kernel, which also stops code that never returns to Python; memory by the size of the address space.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fuzz.board import FAULT, IDLE, Board
from fuzz.case import OUTCOMES, Case, Subject
from fuzz.record import Fault, Record, sort_of
from openbpu.arch.errors import OpenbpuError

_CASES_PER_CHILD = 20_000  # a fresh one now and then: what a case leaves behind must not add up
_WALL_FACTOR = 20  # a case may wait for a busy machine, not for ever
_LOOK_SECONDS = 0.05
_STATM = Path("/proc/self/statm")  # Linux; elsewhere memory is not limited
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Limits:
    """seconds: of the whole run · cases: at most · first: number of the first · memory: bytes of a case."""

    seconds: float
    cases: int
    first: int = 0
    memory: int = 2 << 30


def fuzz(subject: Subject, seed: int, limits: Limits, record: Record, board: Board) -> Iterator[None]:
    """Run cases until the time or the number is reached; yields whenever a child has ended.

    Counts go to `board`, which has a row per kind, faults to `record`.
    """
    subject.warm_up()
    ends = time.monotonic() + limits.seconds
    at, last = limits.first, limits.first + limits.cases
    gc.collect()
    gc.freeze()
    while at < last and time.monotonic() < ends:
        with tempfile.TemporaryFile() as trace:
            job = _Job(subject, seed, range(at, min(last, at + _CASES_PER_CHILD)), ends, limits.memory)
            died = _run_child(job, board, record, trace)
            if died:
                _blame(job, board, record, died, trace)
        yield
        if board.index < at:
            break
        at = board.index + 1


@dataclass(frozen=True, slots=True)
class _Job:
    """What one child is to do."""

    subject: Subject
    seed: int
    indices: range
    ends: float
    memory: int


def _run_child(job: _Job, board: Board, record: Record, trace: IO[bytes]) -> str:
    """Return how the child died, "" when it ended by itself."""
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: what warming up started is asleep
        pid = os.fork()
    if pid == 0:
        try:
            _prepare(job, trace)
            _work(job, board, record)
        except BaseException:  # noqa: BLE001 - a child must never return into the parent's code
            os.write(trace.fileno(), traceback.format_exc().encode())
            os._exit(1)
        os._exit(0)
    return _watched(pid, board, job.subject.cpu_seconds * _WALL_FACTOR)


def _watched(pid: int, board: Board, patience: float) -> str:
    """Wait for the child, and end it where it waits itself or somebody interrupts."""
    seen, since = IDLE, time.monotonic()
    try:
        while time.monotonic() - since <= patience:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return _cause(status)
            if board.index != seen:
                seen, since = board.index, time.monotonic()
            time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        _end(pid)
        raise
    _end(pid)
    return "hang: it waits"


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _cause(status: int) -> str:
    if not os.WIFSIGNALED(status):
        return "" if os.waitstatus_to_exitcode(status) == 0 else "the child ended early"
    number = os.WTERMSIG(status)
    return "hang: CPU time" if number == signal.SIGPROF else f"crash: {signal.Signals(number).name}"


def _prepare(job: _Job, trace: IO[bytes]) -> None:
    """Limits of the child; what it says about itself goes to `trace`, what others say is dropped."""
    if _STATM.exists():
        space = int(_STATM.read_text("ascii").split()[0]) * _PAGE
        resource.setrlimit(resource.RLIMIT_AS, (space + job.memory,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends this one
    faulthandler.enable(trace.fileno())
    faulthandler.register(signal.SIGPROF, trace.fileno(), chain=True)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    warnings.simplefilter("error")


def _work(job: _Job, board: Board, record: Record) -> None:
    for index in job.indices:
        if time.monotonic() >= job.ends:
            return
        board.begin(index)
        signal.setitimer(signal.ITIMER_PROF, job.subject.cpu_seconds)
        _one(job, index, board, record)
    signal.setitimer(signal.ITIMER_PROF, 0)


def _one(job: _Job, index: int, board: Board, record: Record) -> None:
    case = job.subject.make(job.seed, index)
    kind = job.subject.kinds.index(case.kind)
    board.made(kind)
    try:
        column = OUTCOMES.index(job.subject.run(case))
    except BaseException as error:  # noqa: BLE001 - everything but an outcome is what is looked for
        column = FAULT
        _note(job, index, case, record, sort_of(error), "".join(traceback.format_exception(error)))
    board.count(kind, column)


def _note(job: _Job, index: int, case: Case, record: Record, sort: str, text: str) -> None:
    fault = Fault(job.subject.name, case.kind, job.seed, index, sort, text)
    record.add(fault, case)


def _blame(job: _Job, board: Board, record: Record, died: str, trace: IO[bytes]) -> None:
    """The child died of the case it was at: count it, and make it again to save it."""
    trace.seek(0)
    text = trace.read().decode(errors="replace")
    kind = max(board.kind, 0)
    board.count(kind, FAULT)
    try:
        case = job.subject.make(job.seed, board.index) if board.kind != IDLE else None
    except OpenbpuError:
        case = None
    where = next((line.strip() for line in text.splitlines() if "openbpu" in line), "")
    name = job.subject.kinds[kind]
    record.add(Fault(job.subject.name, name, job.seed, board.index, f"{died} {where}".strip(), text), case)
