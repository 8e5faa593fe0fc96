"""What a search found: every configuration that was tried, and the one that was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from openbpu.evaluation.search.setup import Kind, Setup


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted; one of the two, or both. Shares, so 0.01 is 1 %.

    budget: the metric may be so much worse than the float model's, at the fewest µs · latency: it may take so
    much longer than without search, and is the best then where there is no budget, or none that is reached.
    """

    budget: float | None = 0.01
    latency: float | None = None

    @property
    def words(self) -> str:
        """The goal as a sentence has it."""
        most = "" if self.latency is None else f"at no more than {100 * self.latency:+g} % latency"
        if self.budget is None:
            return f"the best metric {most}"
        within = f"within {100 * self.budget:g} % of float at the fewest µs"
        return f"{within}, {most}" if most else within


@dataclass(frozen=True, slots=True)
class Point:
    """A configuration, quantized, evaluated and compiled.

    name: what was done to the one without search ("int8") · score: of the metric; of several outputs, of the
    worst · loss: how much worse than float, as a share of float's · cosine: the worst output's, mean over the
    samples · bpu_us, cpu_us: simulated and estimated · increase: of their sum against the one without search,
    as a share · cpu_nodes: nodes that run on the CPU · front: whether no other one is as good and faster ·
    left: nodes that are float because they stay on the CPU.
    """

    name: str
    setup: Setup
    score: float
    loss: float
    cosine: float
    bpu_us: float
    cpu_us: float
    increase: float
    cpu_nodes: tuple[str, ...]
    front: bool = False
    left: tuple[str, ...] = ()

    @property
    def latency_us(self) -> float:
        """The sum of all segments."""
        return self.bpu_us + self.cpu_us


@dataclass(frozen=True, slots=True)
class Gain:
    """What int16 for the nodes that read a tensor would win, and cost: what the search orders them by.

    noise: what the int8 pair behind the tensor adds to the outputs, as a share of their energy, measured
    alone · microseconds: what the nodes take longer, from the layers of two compiled models.
    """

    tensor: str
    nodes: tuple[str, ...]
    noise: float
    microseconds: float


@dataclass(frozen=True, slots=True)
class Search:
    """The whole of it, ready for a table, a page or JSON.

    metric: its name · larger: whether more is better · is_share: whether it is a share of samples · samples:
    that were judged · float_score: what the float model has · base: the point without search · points: in the
    order they were tried · chosen: an index into them · reached: whether the goal was · why: what to know
    where it was not, "" where it was · gains: the most noise per µs first · refused: what could not be tried,
    and why · config: the chosen `quant_config` · seconds: of the clock.
    """

    metric: str
    larger: bool
    is_share: bool
    samples: int
    float_score: float
    goal: Goal
    march: str
    points: tuple[Point, ...]
    chosen: int
    reached: bool
    why: str
    gains: tuple[Gain, ...]
    refused: tuple[str, ...]
    told: tuple[str, ...]
    config: Mapping[str, Any]
    seconds: float

    @property
    def best(self) -> Point:
        """The point that was chosen."""
        return self.points[self.chosen]

    @property
    def base(self) -> Point:
        """The point without search."""
        return self.points[0]

    @property
    def front(self) -> tuple[Point, ...]:
        """The points of the Pareto front, the fastest first."""
        return tuple(sorted((p for p in self.points if p.front), key=lambda p: (p.latency_us, p.loss)))

    def nodes(self, kind: Kind) -> tuple[str, ...]:
        """Return the nodes of the chosen point that the search gave a type."""
        return self.best.setup.named(kind)


def loss_of(score: float, reference: float, *, larger: bool) -> float:
    """Return how much worse a score is than the float model's, as a share of that; negative: better."""
    worse = reference - score if larger else score - reference
    if worse == 0.0:
        return 0.0
    return worse / abs(reference) if reference else (inf if worse > 0 else -inf)


def on_front(latencies: list[float], losses: list[float]) -> list[bool]:
    """Return which points no other one beats: as good and faster, or as fast and better.

    Of equal ones the first is taken.
    """
    points = list(zip(latencies, losses, strict=True))
    return [
        not any(
            (us <= mine[0] and loss <= mine[1]) and ((us, loss) != mine or other < number)
            for other, (us, loss) in enumerate(points)
            if other != number
        )
        for number, mine in enumerate(points)
    ]
