"""Instructions in queues, ready for the event engine as often as it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from openbpu.arch import isa
from openbpu.arch.arrays import Int64
from openbpu.arch.errors import SimulationError
from openbpu.arch.events.kernel import run
from openbpu.arch.events.marks import PLANNED, WAITER
from openbpu.arch.isa import ENGINES, Code, Engine
from openbpu.arch.march import March
from openbpu.arch.timing import Costs, fill_cycles

Tables = tuple[Any, ...]
"""The arguments of `kernel.run`, as arrays."""
RESULTS = slice(11, 17)
"""Those of them that it writes: start, end, cause, scratch, marks and plan."""
COMPARED = slice(7, 11)
"""Those that only a run which compares reads: known, starts, causes and slack."""


class Queues:
    """All instructions of a segment sorted by queue (core, engine, code order), with their tokens resolved.

    A position is an instruction's place in that order. order: index in code, by position · core: of each
    position · at: index in the codes of all cores one after another · first: position where each queue
    begins, and the end · fill: cycles from an end to its token · deps: the positions that each waits for, of
    the queues dep_queue; those of position p from dep_first[p] on. Raises SimulationError for tokens that no
    instruction can give.
    """

    def __init__(self, codes: Sequence[Code], march: March, name: str) -> None:
        heads = [isa.headers(code) for code in codes]
        self._name = name
        orders, first, counts, deps = [], [0], [], []
        lengths_of = [np.bincount(head["engine"], minlength=ENGINES) for head in heads]
        bases = np.cumsum([0, *(len(head) for head in heads)])
        for number, (head, lengths) in enumerate(zip(heads, lengths_of, strict=True)):
            engine, wait = head["engine"].astype(np.int64), head["wait"]
            order = np.argsort(engine, kind="stable")
            base = bases[number]
            starts = base + np.concatenate([[0], np.cumsum(lengths)])
            need = _needs(wait.astype(np.int64)[order], engine[order], starts - base)
            _check_needs(need, order, engine, lengths, name)
            targets = starts[:ENGINES]
            if len(heads) > 1:
                peers = _news(_peers_of(codes[number])[order], starts - base)
                need = np.concatenate([need, peers], axis=1)
                targets = np.concatenate([targets, _foreign(number, lengths_of, bases, peers, name)])
            rows, columns = np.nonzero(need)
            deps.append(targets[columns] + need[rows, columns] - 1)
            counts.append(np.count_nonzero(need, axis=1))
            orders.append(order)
            first += starts[1:].tolist()
        joined = np.concatenate([np.zeros(1, dtype=np.int64), *counts])
        self.order = _concatenate(orders)
        self.core = np.repeat(np.arange(len(heads)), [len(h) for h in heads])
        self.at = self.order + bases[self.core]
        self.first = np.array(first, dtype=np.int64)
        self.dep_first = np.cumsum(joined)
        self.deps = _concatenate(deps)
        self.dep_queue = np.searchsorted(self.first, self.deps, side="right") - 1
        self._engine = np.repeat(np.arange(len(first) - 1) % ENGINES, np.diff(self.first))
        self.fill = fill_cycles(march)[self._engine]

    def run(self, costs: Sequence[Costs], *, runs: int = 1) -> tuple[Int64, Int64, Int64]:
        """Run the event engine on the costs of each core; returns start, end and cause by position.

        `runs` says how many more runs will follow, for those who have a faster engine that is dear to start.
        Raises SimulationError when the tokens deadlock.
        """
        nothing = np.zeros(0, dtype=np.int64)
        tables = self.tables(self.by_position(costs), nothing, np.zeros(PLANNED, dtype=np.int64))
        self.fill_in(tables, runs)
        start, end, cause = tables[RESULTS][:3]
        return start, end, cause

    def cycles(self, costs: Sequence[Costs], *, runs: int = 1) -> int:
        """Return the cycles from the first instruction to the last token; arguments as for `run`."""
        end = self.run(costs, runs=runs)[1]
        return int((end + self.fill).max()) if len(end) else 0

    def by_position(self, costs: Sequence[Costs]) -> tuple[Int64, Int64]:
        """Return the engine time and the memory time of every position."""
        memory = _concatenate([c.memory for c in costs])[self.at]
        return _concatenate([c.cycles for c in costs])[self.at] - memory, memory

    def tables(self, costs: tuple[Int64, Int64], marks: Int64, plan: Int64) -> Tables:
        """Return the arguments of the kernel: `costs` by position, and how to run."""
        n, queues = len(self.order), len(self.first) - 1
        start, end, cause = (np.full(n, -1, dtype=np.int64) for _ in range(3))
        scratch = np.full(WAITER * queues + n, -1, dtype=np.int64)
        given = (self.first, self.dep_first, self.deps, self.dep_queue, *costs, self.fill)
        return (*given, *[np.zeros(0, dtype=np.int64)] * 4, start, end, cause, scratch, marks, plan)

    def fill_in(self, tables: Tables, runs: int) -> None:
        """Run the engine on the tables in place. Raises SimulationError when the tokens deadlock."""
        stuck = self.engine_of(tables, runs)()
        if stuck:
            self._refuse(tables[RESULTS][1], stuck)

    def engine_of(self, tables: Tables, runs: int) -> Callable[[], int]:
        """Return what runs the engine on the tables in place and says how many instructions are stuck.

        This one is Python's, 5 µs per instruction.
        """
        del runs
        return partial(_run_in_python, tables)

    def _refuse(self, end: Int64, stuck: int) -> None:
        position = int(np.flatnonzero(end < 0)[0])
        where = f"{Engine(int(self._engine[position])).name} at instruction {int(self.order[position])}"
        raise SimulationError(
            f"{self._name}: deadlock: {where} and {stuck - 1} more never start; a token is wrong"
        )


def _run_in_python(tables: Tables) -> int:
    lists = tuple(table.tolist() for table in tables)
    stuck = run(*lists)
    for table, found in zip(tables[RESULTS], lists[RESULTS], strict=True):
        table[:] = found
    return stuck


def _concatenate(parts: list[Int64]) -> Int64:
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


def _peers_of(code: Code) -> Int64:
    """Return how many LOADs and STOREs of the other cores each instruction waits for, int64 [n, peers]."""
    opcodes = isa.headers(code)["opcode"]
    found = np.zeros((len(code), 2 * (isa.MAX_CORES - 1)), dtype=np.int64)
    for cls in (isa.Load, isa.Store):
        where = np.flatnonzero(opcodes == cls.OPCODE)
        found[where] = np.ascontiguousarray(code[where]).view(isa.RECORDS[cls])[:, 0]["peers"]
    return found


def _foreign(number: int, lengths: Sequence[Int64], bases: Int64, peers: Int64, name: str) -> Int64:
    """Return where the queues begin that `peers` of this core counts; refuse counts they never reach."""
    others = [core for core in range(len(lengths)) if core != number]
    starts = np.zeros(peers.shape[1], dtype=np.int64)
    for k, most in enumerate(peers.max(axis=0, initial=0).tolist()):
        has = int(lengths[others[k // 2]][k % 2]) if k // 2 < len(others) else 0
        if most > has:
            wanted = f"{Engine(k % 2).name} {most} of another core (which has {has} instructions)"
            raise SimulationError(f"{name}: deadlock: core {number} waits for {wanted}; a token is wrong")
        if k // 2 < len(others):
            other = others[k // 2]
            starts[k] = bases[other] + int(lengths[other][: k % 2].sum())
    return starts


def _news(counts: Int64, starts: Int64) -> Int64:
    """Return counts of which only those are left that are above all earlier ones of their queue."""
    news = counts.copy()
    for e in range(ENGINES):
        part = slice(int(starts[e]), int(starts[e + 1]))
        if part.start == part.stop:
            continue
        known = np.maximum.accumulate(counts[part], axis=0)
        news[part][1:][counts[part][1:] <= known[:-1]] = 0
    return news


def _needs(wait: Int64, engine: Int64, starts: Int64) -> Int64:
    """Return the waits that say something new: above earlier ones of the queue, not on its own past."""
    need = _news(wait, starts)
    own = need[np.arange(len(need)), engine]
    before = np.arange(len(need)) - starts[engine]
    need[np.arange(len(need)), engine] = np.where(own <= before, 0, own)
    return need


def _check_needs(need: Int64, order: Int64, engine: Int64, lengths: Int64, name: str) -> None:
    """Refuse tokens that no instruction can give."""
    rows, columns = np.nonzero(need > lengths)
    if not len(rows):
        return
    at, other = int(order[rows[0]]), int(columns[0])
    wanted, has = int(need[rows[0], other]), int(lengths[other])
    raise SimulationError(
        f"{name}: deadlock: {Engine(int(engine[at])).name} at instruction {at} waits for "
        f"{Engine(other).name} {wanted} (which has {has} instructions); a token is wrong"
    )
