"""How long the nodes of a program take, one by one: what their layers keep the busiest engine for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from openbpu.arch.isa import Engine
from openbpu.arch.march import March
from openbpu.arch.program import BpuSegment, Program
from openbpu.runtime.latency import Latency, cpu_parts
from openbpu.runtime.roofline import layer_members

if TYPE_CHECKING:
    from openbpu.runtime.latency import Timing

_DDR = [Engine.LOAD, Engine.STORE]
_US = 1e6


def node_times(program: Program, latency: Latency, march: March) -> dict[str, float]:
    """Return µs by node of the model, those of a layer shared by its nodes; engines of layers overlap.

    A CPU segment's estimate, its hand-over included, is shared by its nodes.
    """
    found: dict[str, float] = defaultdict(float)
    for index, (segment, cost) in enumerate(zip(program.segments, latency.segments, strict=True)):
        if isinstance(segment, BpuSegment) and cost.timing is not None:
            for members in layer_members(segment):
                node = segment.operators[members[0]].node
                _share(found, program.debug[node].origins if node >= 0 else (), _busy(cost.timing, members))
        else:
            nodes = [row.node for row in program.placement if row.on == "CPU" and row.segment == index]
            _share(found, nodes, cpu_parts(program, index, march.cpu).total_us)
    return dict(found)


def _share(found: dict[str, float], nodes: Sequence[str], microseconds: float) -> None:
    for name in nodes:
        found[name] += microseconds / len(nodes)


def _busy(timing: Timing, members: Sequence[int]) -> float:
    """Return µs of the engine that a layer keeps busy longest, on the average core; LOAD and STORE as one."""
    busy = timing.layers.busy[np.array(members)].sum(axis=0) / max(len(timing.cores), 1)
    computing = np.delete(busy, _DDR).max()
    return float(max(computing, busy[_DDR].sum())) / timing.clock_hz * _US
