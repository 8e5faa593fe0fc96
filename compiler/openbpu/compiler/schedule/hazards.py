"""Tokens: which completions an instruction must wait for, from the bytes it reads and writes.

Every engine runs its queue in order and counts what it completed. An instruction waits for the last write
of every byte it reads (RAW) and, for every byte it writes, for the last write (WAW) and all reads since
(WAR), by other engines; its own engine needs no token. Nothing else is waited for, so LOAD runs ahead as
far as its targets are free.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from openbpu.arch.isa import ENGINES

Interval = tuple[int, int]
Wait = tuple[int, ...]
_NOBODY = (-1, 0)
_State = tuple[
    int, int, tuple[tuple[int, int], ...]
]  # engine and count of the last write, (engine, count) of reads


class Memory:
    """Who wrote and read which bytes last: disjoint intervals in a sorted list, each with one state."""

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

    def last_use(self, span: Interval) -> list[int]:
        """Per engine, the highest count of an instruction that reads or writes some of the bytes (0:
        none).
        """
        used = [0] * ENGINES
        low, high = bisect_right(self._starts, span[0]) - 1, bisect_left(self._starts, span[1])
        for writer, written, readers in self._states[low:high]:
            if writer >= 0:
                used[writer] = max(used[writer], written)
            for reader, seen in readers:
                used[reader] = max(used[reader], seen)
        return used


class Tokens:
    """The wait vectors of a core's program, built instruction by instruction in program order."""

    def __init__(self) -> None:
        self.chip = Memory()
        self.ddr = Memory()
        self.issued = [0] * ENGINES

    def issue(
        self,
        engine: int,
        *,
        reads: Iterable[Interval] = (),
        writes: Iterable[Interval] = (),
        ddr_reads: Iterable[Interval] = (),
        ddr_writes: Iterable[Interval] = (),
    ) -> Wait:
        """Account for the next instruction of `engine`; returns its wait vector. Intervals are in bytes."""
        wait = [0] * ENGINES
        self.issued[engine] += 1
        count = self.issued[engine]
        for span in reads:
            self.chip.read(span, engine, count, wait)
        for span in ddr_reads:
            self.ddr.read(span, engine, count, wait)
        for span in writes:
            self.chip.write(span, engine, count, wait)
        for span in ddr_writes:
            self.ddr.write(span, engine, count, wait)
        return tuple(wait)
