"""From models and data to scores: the loop over samples, and what comes before and after."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openbpu.arch.errors import InputError, must
from openbpu.evaluation.accuracy.data import Data, Sample, evenly
from openbpu.evaluation.accuracy.feeds import Feeding, samples_at_once
from openbpu.evaluation.accuracy.measure import (
    Group,
    Measure,
    Measured,
    Records,
    Work,
    open_models,
    readable_at,
)
from openbpu.evaluation.accuracy.metrics import Metric
from openbpu.evaluation.accuracy.models import ModelFile, Runner
from openbpu.evaluation.accuracy.records import Kept, Subject
from openbpu.evaluation.accuracy.results import RESAMPLES, Evaluation, Row, Score, scores_of
from openbpu.evaluation.distribution import Pool, Ready
from openbpu.evaluation.own import Own
from openbpu.quantization.samples import Changes, Input, Pixels

Progress = Callable[[int, int], None]
"""Called as progress(samples done, samples in all)."""


_ENOUGH = 20
"""Samples that tell guessing from a poor model, …"""

_GUESSED = 1.5
"""… which is right no more often than this many times chance."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What decides the values besides models, data and metrics.

    pixels: what becomes of pixels · preprocess, postprocess: the user's code · shapes: of dynamic inputs.
    """

    pixels: Pixels = field(default_factory=Pixels)
    preprocess: Own | None = None
    postprocess: Own | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    threads: int = 1
    march: str | None = None


class Evaluator:
    """Models, data and metrics that fit each other, the first sample looked at.

    models: the first is what the others are compared with · limit: so many samples, spread over all. Raises
    InputError, ModelError, HbmError.
    """

    def __init__(
        self,
        models: Sequence[ModelFile],
        runners: Sequence[Runner],
        data: Data,
        metrics: Sequence[Metric],
        setting: Setting,
        *,
        limit: int | None = None,
    ) -> None:
        self.models, self.data, self.metrics = tuple(models), data, tuple(metrics)
        self._setting = setting
        _check_names(self.models)
        for metric in metrics:
            metric.check(data, len(models))
        self.chosen = evenly(len(data.samples), limit)
        feeding = _feeding(setting, data, metrics, self._sample(0))
        self.as_given = tuple(_as_given(feeding, self._sample(0), runners[0].inputs))
        inputs = [i for r in runners for i in r.inputs]
        # Pictures and preprocessed arrays are samples of their own; arrays may be whole runs.
        together = samples_at_once(inputs, self._sample(0), data.inputs if feeding.own is None else {})
        self.task = Measure(
            self.models,
            self.metrics,
            feeding,
            together,
            setting.threads,
            setting.march,
            setting.shapes,
            setting.postprocess,
        )
        self._work = Work(self.task, runners).measure
        self._changes = Changes()
        self._done: dict[int, Records] = {}

    def _sample(self, n: int) -> Sample:
        return self.data.samples[self.chosen[n]]

    def check(self) -> None:
        """Look at the first sample, before anything is computed for the others."""
        self._work((self._sample(0),))

    def subject(self) -> Subject:
        """Return what the records are of."""
        s = self._setting
        options = {
            "metrics": [m.name for m in self.metrics],
            "reading": [repr(m) for m in self.metrics if not hasattr(m, "own")],
            "scale": s.pixels.scale,
            "mean": s.pixels.mean,
            "std": s.pixels.std,
            "preprocess": s.preprocess.spec if s.preprocess else "",
            "postprocess": s.postprocess.spec if s.postprocess else "",
            "code": _digest_of_code(self.metrics, s),
            "shapes": repr(sorted(s.shapes.items())),
        }
        return Subject({m.name: m.digest for m in self.models}, self.data.digest(), options)

    def run(
        self,
        pool: Pool,
        *,
        records: Path | None = None,
        resume: bool = False,
        resamples: int = RESAMPLES,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Return the scores.

        records: a file that keeps what is found of every sample as soon as it is known; with `resume` what is
        in it is not done again. The result is the same for any pool.
        """
        kept = Kept(records, self.subject(), new=not resume) if records is not None else None
        self._done = done = dict(kept.done) if kept is not None else {}
        try:
            self._measure(pool, kept, progress)
        finally:
            if kept is not None:
                kept.close()
        return self._evaluation([done[n] for n in self.chosen], resamples)

    def so_far(self) -> tuple[Score, ...]:
        """Return the scores of the samples that are done, without intervals, of metrics that are means."""
        numbers = [n for n in self.chosen if n in self._done]
        samples = [self.data.samples[n] for n in numbers]
        found = [
            (model.name, figure)
            for k, metric in enumerate(self.metrics)
            if metric.is_mean and numbers
            for m, model in enumerate(self.models)
            for figure in metric.figures([self._done[n][m][k] for n in numbers], samples, self.data)
        ]
        return tuple(Score(name, f.name, f.value, f.is_share, None, None, f.classes) for name, f in found)

    def _measure(self, pool: Pool, kept: Kept | None, progress: Progress | None) -> None:
        """Make the records that are missing."""
        done = self._done
        missing = [n for n in self.chosen if n not in done]
        total, size = len(self.chosen), self.task.together
        groups = [missing[start : start + size] for start in range(0, len(missing), size)]

        before = total - len(missing)

        def take(k: int, found: Measured) -> None:
            for number, records in zip(groups[k], found.records, strict=True):
                done[number] = records
                if kept is not None:
                    kept.add(number, records)
            self._changes.resized |= found.changes.resized
            self._changes.converted |= found.changes.converted
            self._changes.to |= found.changes.to
            if progress is not None:
                nonlocal before
                before += len(groups[k])
                progress(before, total)

        if pool.is_here:
            pool.run(Ready(self._work), _Groups(self.data, groups, packed=False), take)
            return
        sees = pool.sees([Path(m.name) for m in self.models])
        sees_data = not groups or pool.sees(readable_at(self.data.samples))
        task = self.task if sees else self.task.packed()
        pool.run(task, _Groups(self.data, groups, packed=not sees_data), take)

    def _evaluation(self, records: list[Records], resamples: int) -> Evaluation:
        names = [m.name for m in self.models]
        samples = [self.data.samples[n] for n in self.chosen]
        scores = [
            score
            for k, metric in enumerate(self.metrics)
            for score in scores_of(
                names,
                [metric.figures([r[m][k] for r in records], samples, self.data) for m in range(len(names))],
                len(samples),
                resamples,
            )
        ]
        rows = [self._row(sample, of_sample) for sample, of_sample in zip(samples, records, strict=True)]
        told = [*self.data.told, *self.as_given, *_by_chance(scores, samples)]
        if self._changes.sentence():
            told.append(f"images: {self._changes.sentence()}")
        return Evaluation(
            tuple(names), len(samples), len(self.data.samples), tuple(scores), tuple(rows), tuple(told)
        )

    def _row(self, sample: Sample, records: Records) -> Row:
        cells = {
            model.name: {
                f"{metric.name} {column}": value
                for metric, record in zip(self.metrics, of_model, strict=True)
                for column, value in metric.cells(record).items()
            }
            for model, of_model in zip(self.models, records, strict=True)
        }
        label = sample.label if isinstance(sample.label, int | float | str) else None
        return Row(sample.key, label, cells)


class _Groups(Sequence[Group]):
    """The samples of every group, read from the data when a worker asks for them."""

    def __init__(self, data: Data, groups: Sequence[Sequence[int]], *, packed: bool) -> None:
        self._data, self._groups, self._packed = data, groups, packed

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, k: Any) -> Any:
        samples = (self._data.samples[n] for n in self._groups[k])
        return tuple(s.packed() if self._packed else s for s in samples)


def _feeding(setting: Setting, data: Data, metrics: Iterable[Metric], sample: Sample) -> Feeding:
    """Return how samples become feeds: by the user's code where there is some."""
    found = [(setting.preprocess, "")] if setting.preprocess is not None else []
    owns = [own for own in (getattr(m, "own", None) for m in metrics) if own is not None]
    found += [(own, "preprocess") for own in owns if own.has("preprocess")]
    if len(found) > 1:
        specs = " and ".join(own.spec for own, _ in found)
        raise InputError(must("--preprocess", "what feeds the models", "one thing", specs, "leave one out"))
    if found and _says_anything(setting.pixels):
        fix = "leave them out: the preprocessing is the user's"
        raise InputError(must("--preprocess", "--scale, --mean and --std", "left out", "given", fix))
    if found:
        return Feeding(own=found[0][0], method=found[0][1])
    arrays = [sample.arrays[name] for name in data.inputs.values()]
    if arrays and _says_anything(setting.pixels) and not any(a.dtype.kind in "iu" for a in arrays):
        allowed, types = "of integers to be scaled", ", ".join(str(a.dtype) for a in arrays)
        raise InputError(
            must(str(data.where), "an array", allowed, types, "leave out --scale, --mean and --std")
        )
    return Feeding(setting.pixels, data.inputs)


def _says_anything(pixels: Pixels) -> bool:
    """Whether the user said what becomes of pixels."""
    return pixels.scale is not None or bool(np.any(pixels.mean)) or bool(np.any(np.subtract(pixels.std, 1)))


def _as_given(feeding: Feeding, sample: Sample, inputs: Sequence[Input]) -> Iterator[str]:
    """Say that whole numbers in an array go to inputs of floats as they are."""
    if feeding.pixels.scale is not None:
        return
    floats = {i.name for i in inputs if i.dtype.kind == "f"}
    for name in (array for of, array in feeding.arrays.items() if of in floats):
        array = sample.arrays[name]
        if array.dtype.kind in "iu" and array.size > 1:
            ends = f"{array.min()}..{array.max()}"
            yield f"array '{name}' is {array.dtype}, given as it is ({ends} in the first sample); see --scale"


def _by_chance(scores: Iterable[Score], samples: Sequence[Sample]) -> Iterator[str]:
    """Say of the first model where it only guesses: then what it gets is wrong, or the labels are."""
    top1 = next((s for s in scores if s.metric == "top1"), None)
    classes = len({s.label for s in samples}) if top1 is not None else 0
    if top1 is not None and classes > 1 and len(samples) >= _ENOUGH and top1.value <= _GUESSED / classes:
        yield (
            f"{top1.model} is right on {100 * top1.value:.1f} % of {classes} classes, as if it guessed: are "
            "--scale, --mean and --std those it was trained with, and labels in its order (--classes)?"
        )


def _check_names(models: Sequence[ModelFile]) -> None:
    names = [m.name for m in models]
    for name in names:
        if names.count(name) > 1:
            raise InputError(must("eval", "every model", "given once", f"'{name}' twice"))


def _digest_of_code(metrics: Iterable[Metric], setting: Setting) -> str:
    owns = [setting.preprocess, setting.postprocess, *(getattr(m, "own", None) for m in metrics)]
    text = "".join(own.source for own in owns if own is not None)
    return hashlib.sha256(text.encode()).hexdigest()


def open_evaluator(
    models: Sequence[ModelFile],
    read: Callable[[Sequence[str]], Data],
    metrics: Sequence[Metric],
    setting: Setting | None = None,
    *,
    limit: int | None = None,
) -> tuple[Evaluator, tuple[Runner, ...]]:
    """Return an evaluator and its open models. read: gives the data for the inputs of the first model."""
    used = setting or Setting()
    runners = open_models(models, threads=used.threads, march=used.march, shapes=used.shapes)
    data = read([i.name for i in runners[0].inputs])
    return Evaluator(models, runners, data, metrics, used, limit=limit), runners
