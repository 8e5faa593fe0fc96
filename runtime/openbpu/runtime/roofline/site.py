"""A BPU segment under what-ifs: what its instructions cost, and its time when they cost less."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from openbpu.arch import isa
from openbpu.arch.arrays import Float64, Int64
from openbpu.arch.events import WhatIf
from openbpu.arch.isa import ENGINES, Code, Engine
from openbpu.arch.march import March, with_values
from openbpu.arch.program import BpuSegment, Operator, Program, Space
from openbpu.arch.timing import Costs
from openbpu.simulator.timing import Queues, costs_of

T = TypeVar("T")
Flags = npt.NDArray[np.bool_]
_ALIGNMENT = 64
_US = 1e6
_SETUP = ("chip.layer_cycles", "chip.table_ns")
_OVERHEAD = (".issue_cycles", *(name.removeprefix("chip") for name in _SETUP))


class Site:
    """One segment on one march; columns are lists with an entry per core, each int64 or bool [instructions].

    costs: by the rules as they are · operator, engine: of each instruction · constant: loads constants ·
    spilled: moves a tensor that is neither an input nor an output of the segment · crossing: one
    of these.
    """

    def __init__(self, program: Program, segment: BpuSegment, march: March) -> None:
        self.program, self.segment, self.march = program, segment, march
        self._found: dict[Callable[[Program], Any], Any] = {}
        self.costs = self.priced()
        self._queues = Queues(segment.code, march, segment.name)
        self._what_if = WhatIf(
            self._queues, self._queues.by_position(self.costs), runs=3 * len(segment.operators)
        )
        heads = [isa.headers(code) for code in segment.code]
        self.engine = [h["engine"].astype(np.int64) for h in heads]
        self.operator = [h["operator"].astype(np.int64) for h in heads]
        address = [_ddr_addresses(code) for code in segment.code]
        self.constant = [(a >= 0) & (a < len(program.constants)) for a in address]
        ends = self._ends()
        base = len(program.constants)
        self.spilled = [(a >= base) & (a < isa.L2M_BASE) & ~_inside(a, ends) for a in address]
        self.crossing = [_inside(a, ends) for a in address]

    @cached_property
    def held(self) -> list[Int64]:
        """The engine time that each computing instruction loses to its operator's transfers."""
        free = self.priced(march=with_values(self.march, {"chip.port_bytes_per_cycle": 0}))
        return [c.cycles - f.cycles for c, f in zip(self.costs, free, strict=True)]

    @cached_property
    def overhead(self) -> list[Int64]:
        """The engine time of each instruction that does no work: issuing it, setting its operator up."""
        numbers = [k for k in self.march.numbers if k.endswith(_OVERHEAD)]
        bare = self.priced(march=with_values(self.march, dict.fromkeys(numbers, 0)))
        return [c.cycles - b.cycles for c, b in zip(self.costs, bare, strict=True)]

    @cached_property
    def setup(self) -> list[Int64]:
        """The part of `overhead` that sets an operator up, once per run of the segment."""
        bare = self.priced(march=with_values(self.march, dict.fromkeys(_SETUP, 0)))
        return [c.cycles - b.cycles for c, b in zip(self.costs, bare, strict=True)]

    @cached_property
    def _positions(self) -> list[Int64]:
        """The positions of each operator's instructions in the queues."""
        operator = np.concatenate([np.zeros(0, dtype=np.int64), *self.operator])[self._queues.at]
        bounds = np.searchsorted(np.sort(operator), np.arange(1, len(self.segment.operators)))
        return np.split(np.argsort(operator, kind="stable"), bounds)

    def queued(self, costs: Sequence[Costs]) -> tuple[Int64, Int64]:
        """Return costs as `saved` takes them: engine time and memory time, in the order of the queues."""
        return self._queues.by_position(costs)

    def priced(
        self,
        *,
        code: Sequence[Code] | None = None,
        operators: Sequence[Operator] | None = None,
        march: March | None = None,
    ) -> list[Costs]:
        """Return what the rules say about other code, operators or march numbers."""
        segment = self.segment
        return costs_of(
            segment.code if code is None else code,
            segment.operators if operators is None else operators,
            self.program.tensors,
            self.march if march is None else march,
            segment.name,
        )

    def once(self, study: Callable[[Program], T]) -> T:
        """Return what a study of the program finds; each is made once."""
        if study not in self._found:
            self._found[study] = study(self.program)
        found: T = self._found[study]
        return found

    def mask(self, operators: Sequence[int]) -> list[Flags]:
        """Return which instructions serve one of these operators."""
        wanted = np.zeros(len(self.segment.operators), dtype=np.bool_)
        wanted[list(operators)] = True
        return [wanted[o] for o in self.operator]

    def with_transfers(self, costs: Sequence[Costs], shares: Sequence[Float64]) -> list[Costs]:
        """Return costs whose transfers move and take a share (0..1) of what they did, by instruction.

        What an operator's transfers keep from its computing instructions shrinks with the bytes.
        """
        before, after = np.zeros((2, len(self.segment.operators)))
        for c, operator, share in zip(self.costs, self.operator, shares, strict=True):
            np.add.at(before, operator, c.moved + c.shared)
            np.add.at(after, operator, c.moved * share + c.shared)
        left = np.divide(after, before, out=np.ones_like(after), where=before > 0)
        found = []
        for number, (c, share) in enumerate(zip(costs, shares, strict=True)):
            memory = np.ceil(c.memory * share).astype(np.int64)
            moves = ~computing(self.engine[number])
            issue = np.ceil((c.cycles - c.memory) * share).astype(np.int64)
            freed = self.held[number] * (1 - left[self.operator[number]])
            kept = np.maximum(c.cycles - freed.astype(np.int64), 0)
            found.append(replace(c, cycles=np.where(moves, memory + issue, kept), memory=memory))
        return found

    def saved(self, costs: tuple[Int64, Int64], operators: Sequence[int]) -> float:
        """Return how many µs the segment gets shorter when the instructions of these operators cost this."""
        positions = np.sort(np.concatenate([self._positions[i] for i in operators]))
        return self.microseconds(self._what_if.cycles - self._what_if.cycles_with(costs, positions))

    def microseconds(self, cycles: float) -> float:
        """Return cycles of this march's clock in µs."""
        return cycles / self.march.clock_hz * _US

    def by_engine(self, columns: Sequence[Int64]) -> Int64:
        """Return the sums of a column by operator and engine over all cores, int64 [operators, engines]."""
        sums = np.zeros((len(self.segment.operators), ENGINES), dtype=np.int64)
        for operator, engine, column in zip(self.operator, self.engine, columns, strict=True):
            np.add.at(sums, (operator, engine), column)
        return sums

    def _ends(self) -> list[tuple[int, int]]:
        """Return the DDR addresses [first, behind) of the segment's inputs and outputs."""
        base = -(-len(self.program.constants) // _ALIGNMENT) * _ALIGNMENT
        ids = {self.program.root(i) for i in (*self.segment.inputs, *self.segment.outputs)}
        tensors = [self.program.tensors[i] for i in ids]
        return [(base + t.address, base + t.address + t.nbytes) for t in tensors if t.space is Space.DDR]


def _ddr_addresses(code: Code) -> Int64:
    """Return the DDR address of each LOAD and STORE, −1 for other instructions."""
    heads = isa.headers(code)
    address = np.full(len(code), -1, dtype=np.int64)
    for cls in (isa.Load, isa.Store):
        where = np.flatnonzero(heads["opcode"] == cls.OPCODE)
        rows = np.ascontiguousarray(code[where]).view(isa.RECORDS[cls])[:, 0]
        address[where] = rows["ddr"].astype(np.int64)
    return address


def _inside(address: Int64, ranges: Sequence[tuple[int, int]]) -> Flags:
    found = np.zeros(len(address), dtype=np.bool_)
    for first, behind in ranges:
        found |= (address >= first) & (address < behind)
    return found


def computing(engine: Int64) -> Flags:
    """Return which instructions are neither LOAD nor STORE."""
    found: Flags = (engine != Engine.LOAD) & (engine != Engine.STORE)
    return found
