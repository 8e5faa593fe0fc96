"""The roofline of a program: what bounds every layer, and the change that would help most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from openbpu.arch.march import March
from openbpu.arch.program import BpuSegment, Program
from openbpu.arch.timing import Costs
from openbpu.runtime.roofline.bounds import Bound, bound_of, sums_of
from openbpu.runtime.roofline.changes import BATCH, CHANGES, Change
from openbpu.runtime.roofline.cpu import CpuBound, cpu_bounds
from openbpu.runtime.roofline.layers import layer_members
from openbpu.runtime.roofline.site import Site

_LEAST_US = 0.005
"""Gains below this are rounding."""


@dataclass(frozen=True, slots=True)
class Advice:
    """A change. text: what and why · gain_us: how much shorter the BPU's part gets by it, 0 for none."""

    key: str
    text: str
    gain_us: float


@dataclass(frozen=True, slots=True)
class LayerBound:
    """A layer of a segment. exposed_us: how much shorter the segment gets when the layer costs nothing."""

    segment: int
    members: tuple[int, ...]
    bound: Bound
    exposed_us: float
    advice: Advice


@dataclass(frozen=True, slots=True)
class NetworkChange:
    """A change made wherever it applies.

    layers: how many layers or CPU segments it touches · gain_us: of
    all segments together.
    """

    key: str
    text: str
    layers: int
    gain_us: float


@dataclass(frozen=True, slots=True)
class Roofline:
    """layers: in the order of their operators · cpu: the CPU segments · changes: the best one first."""

    layers: tuple[LayerBound, ...]
    cpu: tuple[CpuBound, ...]
    changes: tuple[NetworkChange, ...]


def analyse(program: Program, march: March) -> Roofline:
    """Return the roofline of a program; every gain is a new timing of the whole segment."""
    segments = [(i, s) for i, s in enumerate(program.segments) if isinstance(s, BpuSegment)]
    studies = [_Study(i, Site(program, s, march)) for i, s in segments]
    cpu = cpu_bounds(program, march)
    changes = [found for c in CHANGES if (found := _network(c, studies, march))]
    changes += _off_the_cpu(cpu)
    best = sorted((c for c in changes if c.gain_us > _LEAST_US), key=lambda c: -c.gain_us)
    return Roofline(tuple(line for s in studies for line in s.layers()), cpu, tuple(best))


class _Study:
    """One segment: the costs under each change, computed when they are first asked for."""

    def __init__(self, index: int, site: Site) -> None:
        self.index, self.site = index, site
        self._costs: dict[str, list[Costs]] = {}
        operators = range(len(site.segment.operators))
        self.about = {c.key: {i: text for i in operators if (text := c.about(site, i))} for c in CHANGES}

    def saved(self, change: Change, members: Sequence[int]) -> float:
        """Return the µs that a change of these operators saves."""
        if change.key not in self._costs:
            self._costs[change.key] = change.costs(self.site)
        return self.site.saved(self._costs[change.key], self.site.mask(members))

    def layers(self) -> list[LayerBound]:
        sums = sums_of(self.site)
        free = [replace(c, cycles=np.zeros_like(c.cycles), memory=c.cycles * 0) for c in self.site.costs]
        lines = []
        for members in layer_members(self.site.segment):
            bound = bound_of(self.site, sums, members)
            exposed = max(self.site.saved(free, self.site.mask(members)), 0.0)
            advice = self._best(members, bound) if exposed > _LEAST_US else _hidden(bound)
            lines.append(LayerBound(self.index, members, bound, exposed, advice))
        return lines

    def _best(self, members: tuple[int, ...], bound: Bound) -> Advice:
        found = []
        for change in CHANGES:
            mine = [i for i in members if i in self.about[change.key]]
            if mine and (gain := self.saved(change, mine)) > _LEAST_US:
                found.append(Advice(change.key, self.about[change.key][mine[0]], gain))
        return max(found, key=lambda a: a.gain_us, default=_nothing(bound))


def _hidden(bound: Bound) -> Advice:
    text = "it costs nothing" if bound.by == "none" else "hidden behind other layers: nothing to gain here"
    return Advice("none", text, 0.0)


def _nothing(bound: Bound) -> Advice:
    """Return what remains to say when no change of the table shortens the segment."""
    if bound.by == "compute" and bound.array_use:
        text = f"the array does {bound.array_use:.0%} of what it could: only fewer MACs help"
    else:
        text = {"overhead": "fewer, larger layers"}.get(bound.by, "only less data helps")
    return Advice("none", text, 0.0)


def _off_the_cpu(cpu: Sequence[CpuBound]) -> list[NetworkChange]:
    """Return one change per cure: of all CPU segments that have it."""
    found = []
    for cure in dict.fromkeys(c.cure for c in cpu):
        same = [c for c in cpu if c.cure == cure]
        count = f"{len(same)} CPU segments" if len(same) > 1 else same[0].why
        text = f"{count}: {cure}; at most, the BPU's own time for it aside"
        found.append(NetworkChange("CPU segment", text, len(same), sum(c.gain_us for c in same)))
    return found


def _network(change: Change, studies: Sequence[_Study], march: March) -> NetworkChange | None:
    """Return what a change gives wherever it applies; None where it applies nowhere."""
    gain, layers = 0.0, 0
    texts: list[str] = []
    for study in studies:
        mine = study.about[change.key]
        if not mine:
            continue
        gain += study.saved(change, list(mine))
        layers += sum(any(i in mine for i in m) for m in layer_members(study.site.segment))
        texts += mine.values()
    if not layers:
        return None
    if change.key == "batch":
        gain += len(studies) * march.chip.start_us * (1 - 1 / BATCH)
    text = texts[0] if layers == 1 else f"{change.title} ({layers} layers)"
    return NetworkChange(change.key, text, layers, gain)
