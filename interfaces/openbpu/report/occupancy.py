"""What is held in memory over time: bytes of the tensors that somebody still needs, by memory.

    tensor:  |-- made by its first operator ------- read by its last one --|      every byte counts once

Tensors only: where a layer's tiles pass through on-chip memory, or weights do, is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from openbpu.arch.isa import Engine
from openbpu.arch.program import CpuSegment, Program, Space
from openbpu.report.layers import TimedSegment

PARTS = 100
_US = 1e6
_SHOWN = {Space.CHIP: "on chip", Space.L2M: "L2M", Space.DDR: "DDR"}


@dataclass(frozen=True, slots=True)
class _Life:
    """A tensor in its memory: bytes low..high, needed in cycles first..last."""

    low: int
    high: int
    first: int
    last: int


def memory_json(program: Program, segments: list[TimedSegment]) -> dict[str, Any]:
    """Return the most that each memory holds in each of PARTS equal parts of the BPU's time, in bytes."""
    total = sum(s.timing.cycles for s in segments)
    lives = _lives(program, segments, total)
    hertz = segments[0].timing.clock_hz if segments else 1
    return {
        "interval time (us)": round(total / PARTS / hertz * _US, 6),
        **{name: _most(lives[space], total) for space, name in _SHOWN.items()},
    }


def _lives(program: Program, segments: list[TimedSegment], total: int) -> dict[Space, list[_Life]]:
    """Return the life of every tensor by memory, on the axis of BPU segments one after another."""
    uses: dict[int, list[int]] = {}
    for tensor, cycle in _uses(program, segments, total):
        uses.setdefault(_root(program, tensor), []).append(cycle)
    found: dict[Space, list[_Life]] = {space: [] for space in _SHOWN}
    for tensor, cycles in uses.items():
        t = program.tensors[tensor]
        if t.space in found and t.address >= 0:
            found[t.space].append(_Life(t.address, t.address + t.nbytes, min(cycles), max(cycles)))
    return found


def _uses(program: Program, segments: list[TimedSegment], total: int) -> Iterator[tuple[int, int]]:
    """Yield (tensor, cycle) where a tensor must be there."""
    yield from ((tensor, 0) for tensor in program.inputs)
    yield from ((tensor, total) for tensor in program.outputs)
    timed = {id(s.segment): s for s in segments}
    now = 0
    for segment in program.segments:
        if isinstance(segment, CpuSegment):
            yield from ((tensor, now) for tensor in (*segment.inputs, *segment.outputs))
            continue
        found = timed[id(segment)]
        starts, ends = _starts(found), found.timing.layers.end.tolist()
        for op, start, end in zip(segment.operators, starts, ends, strict=True):
            yield from ((tensor, now + min(start, end)) for tensor in op.outputs)
            yield from ((tensor, now + end) for tensor in (*op.inputs, *op.outputs))
        now += found.timing.cycles


def _starts(timed: TimedSegment) -> list[int]:
    """Return when each operator begins to write: with its first instruction that is no LOAD."""
    starts = np.full(len(timed.segment.operators), np.iinfo(np.int64).max)
    for core in timed.timing.cores:
        writes = core.engine != Engine.LOAD
        np.minimum.at(starts, core.operator[writes], core.start[writes])
    found: list[int] = starts.tolist()
    return found


def _root(program: Program, tensor: int) -> int:
    while program.tensors[tensor].space is Space.VIEW:
        tensor = program.tensors[tensor].address
    return tensor


def _most(lives: Sequence[_Life], total: int) -> list[int]:
    """Return the most bytes held at once in each part of the time."""
    most = [0] * PARTS
    begun: dict[int, list[_Life]] = {}
    for life in lives:
        begun.setdefault(life.first, []).append(life)
    times = sorted({time for life in lives for time in (life.first, life.last)})
    alive: list[_Life] = []
    for time, until in pairwise(times):
        alive = [life for life in [*alive, *begun.get(time, ())] if life.last > time]
        held = _union(alive)
        for part in range(_part(time, total), _part(until - 1, total) + 1):
            most[part] = max(most[part], held)
    return most


def _part(time: int, total: int) -> int:
    return min(time * PARTS // total, PARTS - 1)


def _union(lives: Iterable[_Life]) -> int:
    """Return how many bytes are in one or more of these."""
    held, reached = 0, 0
    for low, high in sorted((life.low, life.high) for life in lives):
        held += max(high - max(low, reached), 0)
        reached = max(reached, high)
    return held
