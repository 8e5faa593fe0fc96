"""Timing of a BPU segment: costs of its instructions through the event engine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch import isa
from openbpu.arch.errors import HbmError, SimulationError
from openbpu.arch.isa import ENGINES, Code, Engine
from openbpu.arch.march import March
from openbpu.arch.program import BpuSegment, Program
from openbpu.arch.timing import Costs, fill_cycles, instruction_costs
from openbpu.simulator.timing import kernel
from openbpu.simulator.timing.result import CoreTiming, Int64, LayerTiming, Timing

_SMALL = 40_000
"""Up to this many instructions Python's run (5 µs each) costs less than importing numba and its cache."""

_COMPILED = "openbpu.simulator.timing.compiled"

_MEMORY_MAX = 1 << 42


@dataclass(frozen=True, slots=True)
class _Queued:
    """All instructions sorted by queue (core, engine, code order), as the event engine takes them.

    order: index in code, by position · core: of each position · first: of each queue · dep_first, deps:
    tokens.
    """

    order: Int64
    core: Int64
    first: Int64
    dep_first: Int64
    deps: Int64


def simulate(program: Program, segment: BpuSegment, march: March) -> Timing:
    """Return the timing of one BPU segment on a march, in integer cycles.

    Raises HbmError for instructions no compiler writes, SimulationError when the tokens deadlock.
    """
    heads = [isa.headers(code) for code in segment.code]
    costs = [_costs(program, segment, code, march) for code in segment.code]
    queued = _queued([h["engine"].astype(np.int64) for h in heads], [h["wait"] for h in heads], segment.name)
    start, end, cause = _run(queued, costs, march, segment)
    cores = []
    for number, (head, cost) in enumerate(zip(heads, costs, strict=True)):
        mine = np.flatnonzero(queued.core == number)
        at = queued.order[mine]
        times = np.full((3, len(at)), -1, dtype=np.int64)
        times[0, at], times[1, at] = start[mine], end[mine]
        times[2, at] = np.where(cause[mine] >= 0, queued.order[cause[mine]], -1)
        engine, operator = head["engine"].astype(np.int64), head["operator"].astype(np.int64)
        cores.append(CoreTiming(times[0], times[1], engine, operator, cost.moved, cost.macs, cause=times[2]))
    return _summary(tuple(cores), len(segment.operators), march)


def _costs(program: Program, segment: BpuSegment, code: Code, march: March) -> Costs:
    costs = instruction_costs(code, segment.operators, program.tensors, march)
    if len(code) and max(costs.cycles.max(), costs.memory.max()) > _MEMORY_MAX:
        raise HbmError(f"{segment.name}: an instruction of 2^42 cycles cannot be; the file is damaged")
    return costs


def _queued(engines: list[Int64], waits: list[npt.NDArray[np.uint32]], name: str) -> _Queued:
    """Sort the instructions of all cores into queues and resolve their waits into positions."""
    orders, first, counts, deps = [], [0], [], []
    base = 0
    for engine, wait in zip(engines, waits, strict=True):
        order = np.argsort(engine, kind="stable")
        lengths = np.bincount(engine, minlength=ENGINES)
        starts = base + np.concatenate([[0], np.cumsum(lengths)])
        need = _needs(wait.astype(np.int64)[order], engine[order], starts - base)
        _check_needs(need, order, engine, lengths, name)
        rows, columns = np.nonzero(need)
        deps.append(starts[columns] + need[rows, columns] - 1)
        counts.append(np.count_nonzero(need, axis=1))
        orders.append(order)
        first += starts[1:].tolist()
        base += len(engine)
    joined = np.concatenate([np.zeros(1, dtype=np.int64), *counts])
    return _Queued(
        order=_concatenate(orders),
        core=np.repeat(np.arange(len(engines)), [len(e) for e in engines]),
        first=np.array(first, dtype=np.int64),
        dep_first=np.cumsum(joined),
        deps=_concatenate(deps),
    )


def _concatenate(parts: list[Int64]) -> Int64:
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


def _needs(wait: Int64, engine: Int64, starts: Int64) -> Int64:
    """Return the waits that say something new: above earlier ones of the queue, not on its own past."""
    need = wait.copy()
    for e in range(ENGINES):
        part = slice(int(starts[e]), int(starts[e + 1]))
        known = np.maximum.accumulate(wait[part], axis=0)
        need[part][1:][wait[part][1:] <= known[:-1]] = 0
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


def _run(
    queued: _Queued, costs: list[Costs], march: March, segment: BpuSegment
) -> tuple[Int64, Int64, Int64]:
    """Run the event engine; returns start, end and cause by position."""
    n, queues = len(queued.order), len(queued.first) - 1
    offsets = np.cumsum([0, *(len(c.cycles) for c in costs)])[queued.core]
    at = queued.order + offsets
    memory = _concatenate([c.memory for c in costs])[at]
    issue = _concatenate([c.cycles for c in costs])[at] - memory
    engine = np.repeat(np.arange(queues) % ENGINES, np.diff(queued.first))
    fill = fill_cycles(march)[engine]
    start, end, cause = (np.full(n, -1, dtype=np.int64) for _ in range(3))
    scratch = np.full(5 * queues + n, -1, dtype=np.int64)
    tables = (queued.first, queued.dep_first, queued.deps, issue, memory, fill, start, end, cause, scratch)
    if n <= _SMALL and _COMPILED not in sys.modules:
        lists = tuple(table.tolist() for table in tables)
        stuck = kernel.run(*lists)
        start, end, cause = (np.array(lists[i], dtype=np.int64) for i in (6, 7, 8))
    else:
        stuck = _compiled()(*tables)
    if stuck:
        position = int(np.flatnonzero(end < 0)[0])
        where = f"{Engine(int(engine[position])).name} at instruction {int(queued.order[position])}"
        raise SimulationError(
            f"{segment.name}: deadlock: {where} and {stuck - 1} more never start; a token is wrong"
        )
    return start, end, cause


def _compiled() -> Any:
    from openbpu.simulator.timing.compiled import run_compiled  # noqa: PLC0415 - numba costs 0.4 s to import

    return run_compiled


def _summary(cores: tuple[CoreTiming, ...], operators: int, march: March) -> Timing:
    fill = fill_cycles(march)
    shape = (len(cores), ENGINES, ENGINES)
    busy, stalls, waits = (
        np.zeros(shape[:2], np.int64),
        np.zeros(shape[:2], np.int64),
        np.zeros(shape, np.int64),
    )
    cycles = 0
    for number, core in enumerate(cores):
        if not len(core.end):
            continue
        cycles = max(cycles, int((core.end + fill[core.engine]).max()))
        np.add.at(busy[number], core.engine, core.duration)
        _count_stalls(core, stalls[number], waits[number])
    layers = _layers(cores, operators)
    return Timing(
        cycles=cycles,
        clock_hz=march.clock_hz,
        busy=busy,
        stalls=stalls,
        waits=waits,
        loaded=int(layers.loaded.sum()),
        stored=int(layers.stored.sum()),
        macs=int(layers.macs.sum()),
        cores=cores,
        layers=layers,
    )


def _count_stalls(core: CoreTiming, stalls: Int64, waits: Int64) -> None:
    """Add the gaps between an engine's instructions, by engine and by the engine it waited for."""
    for engine in range(ENGINES):
        mine = np.flatnonzero(core.engine == engine)
        free = np.concatenate([[0], core.end[mine][:-1]])[: len(mine)]
        gap = core.start[mine] - free
        stalls[engine] += gap.sum()
        late = core.cause[mine] >= 0
        np.add.at(waits[engine], core.engine[core.cause[mine][late]], gap[late])


def _layers(cores: tuple[CoreTiming, ...], operators: int) -> LayerTiming:
    start = np.full(operators, np.iinfo(np.int64).max)
    end, loaded, stored, macs = (np.zeros(operators, dtype=np.int64) for _ in range(4))
    busy = np.zeros((operators, ENGINES), dtype=np.int64)
    for core in cores:
        np.minimum.at(start, core.operator, core.start)
        np.maximum.at(end, core.operator, core.end)
        np.add.at(busy, (core.operator, core.engine), core.duration)
        np.add.at(macs, core.operator, core.macs)
        for total, engine in ((loaded, Engine.LOAD), (stored, Engine.STORE)):
            mine = core.engine == engine
            np.add.at(total, core.operator[mine], core.moved[mine])
    start[start == np.iinfo(np.int64).max] = 0
    return LayerTiming(start, end, busy, loaded, stored, macs)
