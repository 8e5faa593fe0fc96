"""Timing of a BPU segment: costs of its instructions through the event engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openbpu.arch import isa
from openbpu.arch.arrays import Int64
from openbpu.arch.errors import HbmError
from openbpu.arch.isa import ENGINES, Code, Engine
from openbpu.arch.march import March
from openbpu.arch.program import BpuSegment, Operator, Program, Tensor
from openbpu.arch.timing import Costs, fill_cycles, instruction_costs
from openbpu.simulator.timing.queues import Queues
from openbpu.simulator.timing.result import CoreTiming, LayerTiming, Timing

_MEMORY_MAX = 1 << 42


def simulate(program: Program, segment: BpuSegment, march: March) -> Timing:
    """Return the timing of one BPU segment on a march, in integer cycles.

    Raises HbmError for instructions no compiler writes, SimulationError when the tokens deadlock.
    """
    costs = costs_of(segment.code, segment.operators, program.tensors, march, segment.name)
    queues = Queues(segment.code, march, segment.name)
    start, end, cause = queues.run(costs)
    cores = []
    for number, (code, cost) in enumerate(zip(segment.code, costs, strict=True)):
        head = isa.headers(code)
        mine = np.flatnonzero(queues.core == number)
        at = queues.order[mine]
        times = np.full((3, len(at)), -1, dtype=np.int64)
        times[0, at], times[1, at] = start[mine], end[mine]
        own = (cause[mine] >= 0) & (queues.core[cause[mine]] == number)
        times[2, at] = np.where(own, queues.order[cause[mine]], -1)
        engine, operator = head["engine"].astype(np.int64), head["operator"].astype(np.int64)
        cores.append(CoreTiming(times[0], times[1], engine, operator, cost.moved, cost.macs, cause=times[2]))
    shared = sum(int(cost.shared.sum()) for cost in costs)
    return _summary(tuple(cores), len(segment.operators), march, shared)


def costs_of(
    codes: Sequence[Code],
    operators: Sequence[Operator],
    tensors: Sequence[Tensor],
    march: March,
    name: str,
) -> list[Costs]:
    """Return the costs of the instructions of every core; raises HbmError for those no compiler writes."""
    costs = [instruction_costs(code, operators, tensors, march) for code in codes]
    if any(len(c.cycles) and max(c.cycles.max(), c.memory.max()) > _MEMORY_MAX for c in costs):
        raise HbmError(f"{name}: an instruction of 2^42 cycles cannot be; the file is damaged")
    return costs


def _summary(cores: tuple[CoreTiming, ...], operators: int, march: March, shared: int) -> Timing:
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
        shared=shared,
        macs=int(layers.macs.sum()),
        cores=cores,
        layers=layers,
    )


def _count_stalls(core: CoreTiming, stalls: Int64, waits: Int64) -> None:
    """Add the gaps between an engine's instructions, by engine and by the engine it waited for."""
    for engine in range(ENGINES):
        mine = np.flatnonzero(core.engine == engine)
        if not len(mine):
            continue
        gap = core.start[mine]
        gap[1:] -= core.end[mine[:-1]]
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
