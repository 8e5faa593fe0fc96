"""The roofline of a program: what bounds every layer, and the change that would help most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openbpu.arch.arrays import Int64
from openbpu.arch.march import March
from openbpu.arch.program import BpuSegment, Program
from openbpu.runtime.roofline.bounds import Bound, bound_of, sums_of
from openbpu.runtime.roofline.changes import BATCH, CHANGES, Change
from openbpu.runtime.roofline.cpu import CpuBound, cpu_bounds
from openbpu.runtime.roofline.layers import layer_members
from openbpu.runtime.roofline.site import Site

_LEAST_US = 0.005
"""Gains below this are rounding."""
_LITTLE = 0.02
"""A best change that saves less than this share of what a layer exposes is not worth advising."""
_MOSTLY = 0.5
"""The share of a layer's DDR time from which inputs and outputs of the segment are named as its reason."""


@dataclass(frozen=True, slots=True)
class Advice:
    """A change. text: what and why · gain_us: how much shorter the BPU's part gets by it.

    key "none": no change that helps is known, gain_us is 0; key "little": the best one, `gain_us`, saves less
    than 2 % of what the layer exposes, and text says so and what remains.
    """

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
    """Return the roofline of a program; every gain is a new timing of what changes by it."""
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
        self._costs: dict[str, tuple[Int64, Int64]] = {}
        operators = range(len(site.segment.operators))
        self.about = {c.key: {i: text for i in operators if (text := c.about(site, i))} for c in CHANGES}

    def saved(self, change: Change, members: Sequence[int]) -> float:
        """Return the µs that a change of these operators saves."""
        if change.key not in self._costs:
            self._costs[change.key] = self.site.queued(change.costs(self.site))
        return self.site.saved(self._costs[change.key], members)

    def layers(self) -> list[LayerBound]:
        sums = sums_of(self.site)
        nothing = np.zeros_like(self.site.queued(self.site.costs)[0])
        lines = []
        for members in layer_members(self.site.segment):
            bound = bound_of(self.site, sums, members)
            exposed = max(self.site.saved((nothing, nothing), members), 0.0)
            advice = self._best(members, bound, exposed) if exposed > _LEAST_US else _hidden(bound)
            lines.append(LayerBound(self.index, members, bound, exposed, advice))
        return lines

    def _best(self, members: tuple[int, ...], bound: Bound, exposed: float) -> Advice:
        found: list[tuple[Change, Advice]] = []
        for change in CHANGES:
            mine = [i for i in members if i in self.about[change.key]]
            if mine and (gain := self.saved(change, mine)) > _LEAST_US:
                found.append((change, Advice(change.key, self.about[change.key][mine[0]], gain)))
        if not found:
            return Advice("none", self._remains(members, bound), 0.0)
        change, best = max(found, key=lambda f: f[1].gain_us)
        if best.gain_us >= _LITTLE * exposed:
            return best
        most = f"{change.title} saves {best.gain_us:.2f} of {exposed:.2f} µs"
        text = f"no change of the list helps much (at most, {most}): {self._remains(members, bound)}"
        return Advice("little", text, best.gain_us)

    def _remains(self, members: tuple[int, ...], bound: Bound) -> str:
        """Say what is left to do when no change of the table shortens the segment, or hardly."""
        if bound.by == "compute" and bound.array_use:
            return f"the array does {bound.array_use:.0%} of what it could: only fewer MACs help"
        if bound.by == "DDR" and (share := self._crossing(members)) >= _MOSTLY:
            return f"{share:.0%} of its DDR time is inputs and outputs of the segment: only smaller ones help"
        return {"overhead": "fewer, larger layers"}.get(bound.by, "only less data helps")

    def _crossing(self, members: tuple[int, ...]) -> float:
        """Return the share of these operators' memory time that is inputs and outputs of the segment."""
        site, mine = self.site, self.site.mask(members)
        whole = sum(int(c.memory[m].sum()) for c, m in zip(site.costs, mine, strict=True))
        ends = zip(site.costs, mine, site.crossing, strict=True)
        return sum(int(c.memory[m & e].sum()) for c, m, e in ends) / whole if whole else 0.0


def _hidden(bound: Bound) -> Advice:
    text = "it costs nothing" if bound.by == "none" else "hidden behind other layers: nothing to gain here"
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
