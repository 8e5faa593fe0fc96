"""Predictions for many networks at once: programs stay in worker processes, a march's numbers come and go."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import fidelity_data as data

from openbpu.arch.march import get_march, with_values
from openbpu.arch.program import Program
from openbpu.runtime.latency import Latency, latency_of


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one network would take, in µs: BPU alone, CPU alone, per frame when saturated, in one thread.

    serial: what bounds all busy cores together, the host's part or the DDR: n of them take
    max(frame, n·serial).
    """

    bpu: float
    cpu: float
    frame: float
    one_thread: float
    serial: float
    loaded: int
    stored: int
    busy: tuple[float, ...]

    def frame_on(self, cores: int) -> float:
        """Time per frame of one core in µs when so many are kept busy."""
        return max(self.frame, cores * self.serial)


_PROGRAMS: dict[tuple[str, str], Program] = {}


def _load(task: tuple[str, str, str]) -> None:
    march, model, tag = task
    if (march, model) not in _PROGRAMS:
        _PROGRAMS[march, model] = data.compiled(model, march, tag)


def predict(program: Program, march: str, values: Mapping[str, int]) -> Prediction:
    """Time one program with some numbers of the march changed."""
    latency = latency_of(program, with_values(get_march(march), dict(values)))
    return _prediction(latency)


def _prediction(latency: Latency) -> Prediction:
    timings = [s.timing for s in latency.segments if s.timing]
    total = sum(t.cycles for t in timings) or 1
    return Prediction(
        latency.bpu_us,
        latency.cpu_us,
        latency.frame_us_on(1),
        latency.one_thread_us,
        max(latency.serial_us, latency.shared_us),
        sum(t.loaded for t in timings),
        sum(t.stored for t in timings),
        tuple((sum(t.busy.sum(axis=0) for t in timings) / total).tolist()) if timings else (),
    )


def _work(pipe: multiprocessing.connection.Connection, tasks: Sequence[tuple[str, str, str]]) -> None:
    for task in tasks:
        _load(task)
    while (request := pipe.recv()) is not None:
        march, values, models = request
        pipe.send({m: predict(_PROGRAMS[march, m], march, values) for m in models if (march, m) in _PROGRAMS})


class Bench:
    """Programs of one or more marches, spread over processes that live as long as this object."""

    def __init__(self, networks: Sequence[tuple[str, str]], tags: Mapping[str, str], jobs: int = 2) -> None:
        """networks: (march, model) · tags: by march, the state of the compiler whose programs these are."""
        context = multiprocessing.get_context("spawn")
        sizes = {n: data.compiled_size(n[1], n[0], tags[n[0]]) for n in networks}
        shares: list[list[tuple[str, str, str]]] = [[] for _ in range(jobs)]
        for march in sorted({m for m, _ in networks}):
            weights = [0] * jobs
            for n in sorted((n for n in networks if n[0] == march), key=lambda n: -sizes[n]):
                worker = weights.index(min(weights))
                weights[worker] += sizes[n]
                shares[worker].append((*n, tags[march]))
        self._pipes = []
        for share in shares:
            mine, theirs = context.Pipe()
            context.Process(target=_work, args=(theirs, share), daemon=True).start()
            self._pipes.append(mine)

    @classmethod
    def of_marches(
        cls, marches: Sequence[str], jobs: int = 2, tag: str = ""
    ) -> tuple[dict[str, list[data.Row]], Bench]:
        """Compile all published networks of some marches; returns the rows of those that compile, by march,
        and their bench.

        tag: programs compiled earlier under this name, instead of those of the sources as they are. What does
        not compile is said on stdout.
        """
        found: dict[str, list[data.Row]] = {}
        tags = {march: tag or data.state(march) for march in marches}
        for march in marches:
            rows = data.rows(march)
            failed = {
                m: e for m, _, e in data.prepare(march, [r.model for r in rows], jobs, tags[march]) if e
            }
            for model, error in failed.items():
                sys.stdout.write(f"{march} {model}: {error}\n")
            found[march] = [r for r in rows if r.model not in failed]
        return found, cls([(m, r.model) for m, rows in found.items() for r in rows], tags, jobs)

    def close(self) -> None:
        """Let the processes end."""
        for pipe in self._pipes:
            pipe.send(None)

    def predict(self, march: str, values: Mapping[str, int], models: Sequence[str]) -> dict[str, Prediction]:
        """Time networks of a march with some of its numbers changed."""
        for pipe in self._pipes:
            pipe.send((march, dict(values), list(models)))
        found: dict[str, Prediction] = {}
        for pipe in self._pipes:
            found |= pipe.recv()
        return found
