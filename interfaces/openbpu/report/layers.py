"""What each layer of a program costs: the timing of all BPU segments by layer, on one time axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from openbpu.arch.isa import Engine
from openbpu.arch.program import BpuSegment, Program
from openbpu.report.disasm import layer_name
from openbpu.runtime import Latency
from openbpu.runtime.roofline import layer_members

if TYPE_CHECKING:
    from openbpu.runtime.latency import Timing

_US = 1e6
_DDR = (Engine.LOAD, Engine.STORE)


@dataclass(frozen=True, slots=True)
class TimedSegment:
    """A BPU segment with its timing; `offset` is when it starts, in cycles of a run whose BPU never idles."""

    segment: BpuSegment
    timing: Timing
    offset: int


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer: when it is active and what it costs, in µs, averaged over the cores.

    compute_us: engines without LOAD and STORE, as if nothing overlapped · engine: the one busy longest.
    """

    name: str
    start_us: float
    end_us: float
    compute_us: float
    load_us: float
    store_us: float
    engine: str
    loaded: int
    stored: int
    macs: int
    origins: tuple[str, ...]
    scope: str
    source: str


def timed_segments(program: Program, latency: Latency) -> list[TimedSegment]:
    """Return the BPU segments one after another, as if the CPU took no time in between."""
    found, offset = [], 0
    for segment, cost in zip(program.segments, latency.segments, strict=True):
        if isinstance(segment, BpuSegment) and cost.timing is not None:
            found.append(TimedSegment(segment, cost.timing, offset))
            offset += cost.timing.cycles
    return found


def layer_costs(program: Program, segments: list[TimedSegment]) -> list[LayerCost]:
    """Return the layers in the order of their operators; operators of one layer count together."""
    return [cost for timed in segments for cost in _layers(program, timed)]


def _layers(program: Program, timed: TimedSegment) -> Iterator[LayerCost]:
    for members in layer_members(timed.segment):
        yield _layer(program, timed, np.array(members))


def _layer(program: Program, timed: TimedSegment, members: npt.NDArray[np.int64]) -> LayerCost:
    timing, layers = timed.timing, timed.timing.layers
    cycle = _US / timing.clock_hz
    ran = members[layers.end[members] > 0]
    start = int(layers.start[ran].min()) if ran.size else 0
    end = int(layers.end[ran].max()) if ran.size else 0
    busy = layers.busy[members].sum(axis=0) / max(len(timing.cores), 1) * cycle
    compute = sum(float(busy[e]) for e in Engine if e not in _DDR)
    node = timed.segment.operators[int(members[0])].node
    entry = program.debug[node] if node >= 0 else None
    return LayerCost(
        name=layer_name(program, timed.segment, int(members[0])),
        start_us=(start + timed.offset) * cycle,
        end_us=(end + timed.offset) * cycle,
        compute_us=compute,
        load_us=float(busy[Engine.LOAD]),
        store_us=float(busy[Engine.STORE]),
        engine=Engine(int(busy.argmax())).name if busy.any() else "",
        loaded=int(layers.loaded[members].sum()),
        stored=int(layers.stored[members].sum()),
        macs=int(layers.macs[members].sum()),
        origins=entry.origins if entry else (),
        scope=entry.scope if entry else "",
        source=entry.source if entry else "",
    )
