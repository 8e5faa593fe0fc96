"""Frames of several threads on one chip: an event simulation of what a board measures.

A thread submits a frame, waits for it and submits the next:

    host      serial part of a submission, one thread at a time, then the rest of it
    CPU       segments in front of the first one of the BPU, on one of the CPU's cores
    BPU       from the first to the last segment there, on one core (or as many as the program was compiled
              for); CPU segments in between hold the place, as in `Latency.frame_us`; where the DDR that
              all cores share is the bound, for as long as all of them take to move their bytes
    CPU       segments behind the last one of the BPU, and dequantizing integer outputs

So the CPU of one frame overlaps with the BPU of another. Who waits for the BPU gets it by priority, then in
the order of coming; a frame that has begun is not interrupted. Times are those of `Latency`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.runtime.latency import Latency

Step = tuple["Pool | None", int, int, frozenset[int], float]
"""Pool (None: only time passes), units taken, priority, allowed units (empty: any), µs."""


@dataclass(frozen=True, slots=True)
class Load:
    """A model that threads submit to. frames: of all threads together · width: BPU cores that a run takes ·
    cores: those it may run on, empty for any · priority: 0..255, the highest first.
    """

    latency: Latency
    frames: int = 200
    threads: int = 1
    priority: int = 0
    cores: frozenset[int] = frozenset()
    width: int = 1


@dataclass(frozen=True, slots=True)
class Frames:
    """When each frame was submitted and done, in µs; images: frames of the model that a run computes."""

    start_us: tuple[float, ...]
    end_us: tuple[float, ...]
    bpu_busy_us: float
    images: int = 1

    @property
    def latencies_us(self) -> Array:
        """From submission to return, by frame."""
        return np.subtract(self.end_us, self.start_us, dtype=np.float64)

    @property
    def average_us(self) -> float:
        """The mean latency."""
        return float(self.latencies_us.mean())

    @property
    def least_us(self) -> float:
        """The shortest latency."""
        return float(self.latencies_us.min())

    @property
    def most_us(self) -> float:
        """The longest latency."""
        return float(self.latencies_us.max())

    def percentile_us(self, share: float) -> float:
        """The latency that `share` per cent of the frames do not exceed."""
        return float(np.percentile(self.latencies_us, share))

    @property
    def total_us(self) -> float:
        """From the first submission to the last return."""
        return max(self.end_us) - min(self.start_us)

    @property
    def fps(self) -> float:
        """Frames a second, all threads together."""
        return 1e6 * len(self.end_us) * self.images / self.total_us if self.total_us else 0.0


def simulate_frames(loads: Sequence[Load], *, bpu_cores: int, cpu_cores: int) -> tuple[Frames, ...]:
    """Return the frames of every load; all threads of all loads begin at once.

    Raises InputError for counts below 1, and for a load that no cores are there for.
    """
    for load in loads:
        _check(load, bpu_cores)
    host, cpu, bpu = Pool(1), Pool(cpu_cores), Pool(bpu_cores)
    clock = _Clock()
    threads = sum(load.threads for load in loads)
    runs = [_Run(load, min(threads, max(bpu_cores // load.width, 1))) for load in loads]
    for run in runs:
        for _ in range(min(run.load.threads, run.load.frames)):
            clock.start(run.thread(clock, host, cpu, bpu))
    clock.run()
    return tuple(run.frames() for run in runs)


def _check(load: Load, bpu_cores: int) -> None:
    for what, value in (("frame_count", load.frames), ("thread_num", load.threads)):
        if value < 1:
            raise InputError(must("perf", what, "at least 1", value))
    allowed = load.cores or frozenset(range(bpu_cores))
    if not allowed <= frozenset(range(bpu_cores)) or len(allowed) < load.width:
        what = f"{load.width} or more of the cores 0..{bpu_cores - 1}"
        raise InputError(must("perf", "core_id", what, sorted(allowed)))


class Pool:
    """Units of a resource, numbered, and who waits for them."""

    def __init__(self, units: int) -> None:
        self.free = list(range(units))
        self.waiting: list[tuple[int, int, int, frozenset[int], Callable[[list[int]], None]]] = []

    def ask(
        self, order: tuple[int, int], units: int, allowed: frozenset[int], go: Callable[[list[int]], None]
    ) -> None:
        """Call `go` with the units once they are free, those of a lower order first."""
        heapq.heappush(self.waiting, (*order, units, allowed, go))
        self.serve()

    def give(self, units: Sequence[int]) -> None:
        """Take units back."""
        self.free = sorted([*self.free, *units])
        self.serve()

    def serve(self) -> None:
        """Give free units to those who wait; one whose cores are taken lets others by."""
        passed = []
        while self.waiting and self.free:
            first = heapq.heappop(self.waiting)
            *_, units, allowed, go = first
            found = [unit for unit in self.free if not allowed or unit in allowed][:units]
            if len(found) < units:
                passed.append(first)
                continue
            self.free = [unit for unit in self.free if unit not in found]
            go(found)
        for one in passed:
            heapq.heappush(self.waiting, one)


class _Clock:
    """Time in µs, and what happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    def at(self, time: float, what: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (time, self._order, what))

    def start(self, steps: Generator[Step, None, None]) -> None:
        self.at(self.now, lambda: self._next(steps))

    def _next(self, steps: Generator[Step, None, None]) -> None:
        """Go on to a thread's next step: wait for its units, keep them for its time, give them back."""
        step = next(steps, None)
        if step is None:
            return
        pool, units, priority, allowed, duration = step
        if pool is None:
            self.at(self.now + duration, lambda: self._next(steps))
            return

        def go(taken: list[int]) -> None:
            def done() -> None:
                pool.give(taken)
                self._next(steps)

            self.at(self.now + duration, done)

        self._order += 1
        pool.ask((-priority, self._order), units, allowed, go)

    def run(self) -> None:
        while self._events:
            self.now, _, what = heapq.heappop(self._events)
            what()


class _Run:
    """A load that is being submitted: its threads take frame after frame.

    at_once: runs that share the DDR with each of its own, itself among them.
    """

    def __init__(self, load: Load, at_once: int) -> None:
        self.load = load
        self.left = load.frames
        self.start: list[float] = []
        self.end: list[float] = []
        self.busy = 0.0
        before, held, after = _parts(load.latency)
        self.held = max(held, at_once * load.latency.shared_us) if held else held
        self.serial = min(load.latency.serial_us, load.latency.submit_us)
        self.rest = load.latency.submit_us - self.serial
        self.before, self.after = before, after + load.latency.dequantize_us

    def thread(self, clock: _Clock, host: Pool, cpu: Pool, bpu: Pool) -> Generator[Step, None, None]:
        load, anything = self.load, frozenset[int]()
        while self.left:
            self.left -= 1
            begun = clock.now
            yield host, 1, 0, anything, self.serial
            yield None, 0, 0, anything, self.rest
            if self.before:
                yield cpu, 1, 0, anything, self.before
            if self.held:
                self.busy += self.held * load.width
                yield bpu, load.width, load.priority, load.cores, self.held
            if self.after:
                yield cpu, 1, 0, anything, self.after
            self.start.append(begun)
            self.end.append(clock.now)

    def frames(self) -> Frames:
        return Frames(tuple(self.start), tuple(self.end), self.busy, self.load.latency.images)


def _parts(latency: Latency) -> tuple[float, float, float]:
    """Return µs in front of the BPU, on it (with what lies between), and behind it."""
    on_bpu = [i for i, s in enumerate(latency.segments) if s.on == "BPU"]
    if not on_bpu:
        return latency.cpu_us, 0.0, 0.0
    first, last = on_bpu[0], on_bpu[-1] + 1
    times = [s.microseconds for s in latency.segments]
    return sum(times[:first]), sum(times[first:last]), sum(times[last:])
