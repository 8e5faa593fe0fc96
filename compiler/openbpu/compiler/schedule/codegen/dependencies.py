"""Dependencies: which completions an instruction must wait for, from the bytes it reads and writes.

Every engine runs its queue in order and counts what it completed. An instruction waits for the last write
of every byte it reads (RAW) and, for every byte it writes, for the last write (WAW) and all reads since
(WAR), by other engines; its own engine needs no token. Nothing else is waited for, so LOAD runs ahead as
far as its targets are free. Where several cores work on a segment, they share DDR (and the L2M): there, LOAD
and STORE wait for those of other cores too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from openbpu.arch.isa import ENGINES, MAX_CORES, Engine
from openbpu.compiler.schedule.problem.byte_ranges import Interval

Wait = tuple[int, ...]
"""How many instructions every engine must have completed, by engine."""
_NOBODY = (-1, 0)
_NO_PEERS = (0,) * (2 * (MAX_CORES - 1))
_State = tuple[int, int, tuple[tuple[int, int], ...]]
"""Engine and count of the last write, (engine, count) of the reads since."""


class AccessHistory:
    """The last write of every byte and the reads since: disjoint intervals, sorted, one state each."""

    def __init__(self) -> None:
        self._starts: list[int] = [0]
        self._states: list[_State] = [(*_NOBODY, ())]

    def _cut(self, at: int) -> int:
        """Index of the interval that starts at `at`, made if there is none."""
        i = bisect_left(self._starts, at)
        if i == len(self._starts) or self._starts[i] != at:
            self._starts.insert(i, at)
            self._states.insert(i, self._states[i - 1])
        return i

    def read(self, span: Interval, engine: int, count: int, wait: list[int]) -> None:
        """Instruction `count` of `engine` reads the bytes; raises `wait` to the writes it must see."""
        low, high = self._cut(span[0]), self._cut(span[1])
        for i in range(low, high):
            writer, written, readers = self._states[i]
            if writer != engine and writer >= 0 and wait[writer] < written:
                wait[writer] = written
            others = tuple([r for r in readers if r[0] != engine])
            self._states[i] = (writer, written, (*others, (engine, count)))

    def write(self, span: Interval, engine: int, count: int, wait: list[int]) -> None:
        """Instruction `count` of `engine` writes the bytes; raises `wait` to the writes and reads before
        it.
        """
        low, high = self._cut(span[0]), self._cut(span[1])
        for writer, written, readers in self._states[low:high]:
            if writer != engine and writer >= 0 and wait[writer] < written:
                wait[writer] = written
            for reader, seen in readers:
                if reader != engine and wait[reader] < seen:
                    wait[reader] = seen
        self._starts[low:high] = [span[0]]
        self._states[low:high] = [(engine, count, ())]


class SharedAccessHistory:
    """The access history of memory that several cores share; `engine` counts through the engines of all.

    What the parts of one job write (all that is written at one `moment`) does not overlap, though its
    intervals may: strided rows count as all between the first and the last byte. They do not wait for each
    other, only for what was there `before`.
    """

    def __init__(self, engines: int) -> None:
        self.engines = engines
        self.moment = 0
        self._starts: list[int] = [0]
        self._states: list[_Version] = [_Version(-1, {}, {}, {})]

    def _cut(self, at: int) -> int:
        i = bisect_left(self._starts, at)
        if i == len(self._starts) or self._starts[i] != at:
            self._starts.insert(i, at)
            self._states.insert(i, self._states[i - 1].copy())
        return i

    def read(self, span: Interval, engine: int, count: int, wait: list[int]) -> None:
        """Instruction `count` of `engine` reads the bytes; raises `wait` to the writes it must see."""
        low, high = self._cut(span[0]), self._cut(span[1])
        for state in self._states[low:high]:
            _raise(wait, state.writers, engine)
            state.readers[engine] = count

    def write(self, span: Interval, engine: int, count: int, wait: list[int]) -> None:
        """Instruction `count` of `engine` writes the bytes; raises `wait` to all uses before this moment."""
        low, high = self._cut(span[0]), self._cut(span[1])
        for state in self._states[low:high]:
            if state.moment != self.moment:
                state.before = _latest(state.writers, state.readers)
                state.moment, state.writers, state.readers = self.moment, {}, {}
            _raise(wait, state.before, engine)
            state.writers[engine] = count


@dataclass(slots=True)
class _Version:
    """Bytes since their last change: when that was, by whom, who read it, and all uses before; by engine."""

    moment: int
    writers: dict[int, int]
    readers: dict[int, int]
    before: dict[int, int]

    def copy(self) -> _Version:
        return _Version(self.moment, dict(self.writers), dict(self.readers), self.before)


def _raise(wait: list[int], counts: Mapping[int, int], engine: int) -> None:
    """Raise a wait vector to the counts of other engines."""
    for other, count in counts.items():
        if other != engine and wait[other] < count:
            wait[other] = count


def _latest(left: Mapping[int, int], right: Mapping[int, int]) -> dict[int, int]:
    return {e: max(left.get(e, 0), right.get(e, 0)) for e in {**left, **right}}


class DependencyTracker:
    """Works out what the instructions of a core must wait for, one by one in program order.

    core, cores: which of how many · ddr: the history of the memory that the cores share; their programs are
    then built side by side, in one order.
    """

    def __init__(self, core: int = 0, cores: int = 1, ddr: SharedAccessHistory | None = None) -> None:
        self.core, self.cores = core, cores
        self.chip = AccessHistory()
        self.ddr: AccessHistory | SharedAccessHistory = ddr or AccessHistory()
        self.issued = [0] * ENGINES
        self.peers = _NO_PEERS

    def issue(
        self,
        engine: int,
        *,
        reads: Iterable[Interval] = (),
        writes: Iterable[Interval] = (),
        ddr_reads: Iterable[Interval] = (),
        ddr_writes: Iterable[Interval] = (),
    ) -> Wait:
        """Account for the next instruction of `engine`; returns its wait vector. Intervals are in bytes.

        `peers` then holds what it waits for of other cores: LOADs and STOREs of each.
        """
        wait = [0] * ENGINES
        self.issued[engine] += 1
        count = self.issued[engine]
        for span in reads:
            self.chip.read(span, engine, count, wait)
        for span in writes:
            self.chip.write(span, engine, count, wait)
        first = self.core * ENGINES
        far = wait if self.cores == 1 else [0] * (self.cores * ENGINES)
        for span in ddr_reads:
            self.ddr.read(span, first + engine, count, far)
        for span in ddr_writes:
            self.ddr.write(span, first + engine, count, far)
        if self.cores > 1:
            wait = [max(w, f) for w, f in zip(wait, far[first : first + ENGINES], strict=True)]
            self.peers = self._peers(far)
        return tuple(wait)

    def _peers(self, far: list[int]) -> Wait:
        """LOAD and STORE counts of the other cores, in order."""
        found = list(_NO_PEERS)
        for k, core in enumerate(c for c in range(self.cores) if c != self.core):
            for part in (Engine.LOAD, Engine.STORE):
                found[2 * k + part] = far[core * ENGINES + part]
        return tuple(found)
