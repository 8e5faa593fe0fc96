"""What a process does with samples: feed every model, and keep of each output what the metrics need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, OpenbpuError, must, reworded
from openbpu.evaluation.accuracy.data import Sample
from openbpu.evaluation.accuracy.feeds import Feeding, Read, split_outputs
from openbpu.evaluation.accuracy.metrics import Metric, Seen
from openbpu.evaluation.accuracy.metrics.base import Record
from openbpu.evaluation.accuracy.models import ModelFile, Runner, Shapes
from openbpu.evaluation.own import Own
from openbpu.quantization.samples import Changes, Input, frame

Group = tuple[Sample, ...]
Records = list[list[Record]]
"""Of one sample: by model, then by metric."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The records of every sample of a group, and which pictures were changed."""

    records: list[Records]
    changes: Changes


@dataclass(frozen=True, slots=True)
class Measure:
    """The task that travels. together: how many samples a group has; a shorter one is filled up."""

    models: tuple[ModelFile, ...]
    metrics: tuple[Metric, ...]
    feeding: Feeding
    together: int
    threads: int = 1
    march: str | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    postprocess: Own | None = None

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules of the user's, which workers get by value."""
        owns = [self.feeding.own, self.postprocess, *(getattr(m, "own", None) for m in self.metrics)]
        return tuple(name for own in owns if own is not None for name in own.modules)

    def open(self) -> Callable[[Group], Measured]:
        """Return what makes the records of a group."""
        runners = open_models(self.models, threads=self.threads, march=self.march, shapes=self.shapes)
        return Work(self, runners).measure

    def packed(self) -> Measure:
        """Return the task with the bytes of its models inside."""
        return replace(self, models=tuple(m.packed() for m in self.models))


def open_models(
    models: Sequence[ModelFile], *, threads: int, march: str | None, shapes: Shapes
) -> tuple[Runner, ...]:
    """Return the models, ready to run, with as many inputs and outputs as the first; raises InputError."""
    runners = tuple(m.open(threads=threads, march=march, shapes=shapes) for m in models)
    first = runners[0]
    for model, runner in zip(models, runners, strict=True):
        for what, ours, theirs in (
            ("inputs", runner.inputs, first.inputs),
            ("outputs", runner.outputs, first.outputs),
        ):
            if len(ours) != len(theirs):
                fix = "compare models of one network"
                allowed = f"{len(theirs)}, as of {models[0].name}"
                raise InputError(must(model.name, f"the number of {what}", allowed, len(ours), fix))
    return runners


class Work:
    """Open models, and what is done with a group of samples."""

    def __init__(self, task: Measure, runners: Sequence[Runner]) -> None:
        self._task, self._runners = task, runners
        first = runners[0]
        self._names = [_paired([i.name for i in r.inputs], [i.name for i in first.inputs]) for r in runners]
        self._outputs = [_paired(r.outputs, first.outputs) for r in runners]

    def measure(self, group: Group) -> Measured:
        """Return the records of a group; raises an error of openbpu that names model and sample."""
        changes, read = Changes(), Read()
        seen = [self.seen(n, group, changes, read) for n in range(len(self._runners))]
        records = [
            [[metric.record(of_model[k], seen[0][k]) for metric in self._task.metrics] for of_model in seen]
            for k in range(len(group))
        ]
        return Measured(records, changes)

    def seen(self, n: int, group: Group, changes: Changes, read: Read) -> list[Seen]:
        """Return what model `n` makes of every sample of a group. read: what was read for other models."""
        model, runner = self._task.models[n], self._runners[n]
        full = (*group, *(group[-1:] * (self._task.together - len(group))))
        batch = _at_once(runner.inputs, self._task.together)
        found = []
        for start in range(0, len(full), batch):
            part = full[start : start + batch]
            feed = self._task.feeding.feed(part, runner.inputs, self._names[n], changes, read)
            for sample, outputs in zip(part, self._run(model, runner, feed, part), strict=True):
                found.append(self._one(n, sample, outputs))
        return found[: len(group)]

    def _run(
        self, model: ModelFile, runner: Runner, feed: dict[str, Array], part: Sequence[Sample]
    ) -> list[dict[str, Array]]:
        try:
            outputs = runner.run(feed)
        except OpenbpuError as error:
            text = f"{model.name}, sample '{part[0].key}': {error}"
            raise reworded(error, text) from error
        return split_outputs(outputs, len(part), model.name)

    def _one(self, n: int, sample: Sample, outputs: Mapping[str, Array]) -> Seen:
        named = {name: np.asarray(outputs[own]) for own, name in self._outputs[n].items()}
        own = self._task.postprocess
        prediction = None if own is None else own.call(sample.key, "", dict(named), sample)
        return Seen(self._task.models[n].name, sample, named, prediction, self._frame(n, sample))

    def _frame(self, n: int, sample: Sample) -> tuple[int, int] | None:
        inputs = self._runners[n].inputs
        if sample.path is None or self._task.feeding.own is not None or len(inputs) != 1:
            return None
        return frame(inputs[0], str(sample.path))


def _at_once(inputs: Sequence[Input], together: int) -> int:
    """Return how many samples of a group a model takes at a time."""
    sizes = {i.batch for i in inputs}
    return max(sizes) if together > 1 and sizes else 1


def _paired(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """Map own names to those of the first model: the same where they have the same, else by position."""
    if set(ours) == set(theirs):
        return {name: name for name in ours}
    return dict(zip(ours, theirs, strict=True))


def readable_at(samples: Sequence[Sample]) -> list[Path]:
    """Return files of these samples that tell whether somebody sees them: the first and the last."""
    paths = [s.path for s in (samples[0], samples[-1]) if s.path is not None]
    return list(dict.fromkeys(paths))
