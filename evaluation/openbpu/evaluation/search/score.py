"""The metric that counts, of one quantized model after another on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from openbpu.evaluation.accuracy.data import Data, Sample
from openbpu.evaluation.accuracy.evaluate import Evaluator, Setting
from openbpu.evaluation.accuracy.measure import Group, Work
from openbpu.evaluation.accuracy.metrics import Metric, Seen
from openbpu.evaluation.accuracy.metrics.cosine import cosine
from openbpu.evaluation.accuracy.models import ModelFile
from openbpu.quantization.onnx.samples import Feed
from openbpu.quantization.samples import Changes

Scores = npt.NDArray[np.float64]

_KEPT_BYTES = 512 << 20
"""What the float model makes of the samples is kept up to this size, and made again where it is larger."""
_PARTS = 16
"""So many groups of samples are left out in turn, to tell a difference from chance."""
_QUANTIZED = "the quantized model"


@dataclass(frozen=True, slots=True)
class Judged:
    """score: of the metric, of its worst figure where it has several · cosine: of the worst output."""

    score: float
    cosine: float
    is_share: bool


@dataclass(frozen=True, slots=True)
class Test:
    """Samples and what is measured on them.

    limit: so many samples, spread over all · setting: how samples become feeds, and shapes of free axes.
    """

    data: Data
    metric: Metric
    setting: Setting
    limit: int | None = None

    @property
    def larger(self) -> bool:
        """Whether more is better: of all but what the user says is an error (`lower_is_better`)."""
        own = getattr(self.metric, "own", None)
        thing = self.metric if own is None else own.thing
        return not getattr(thing, "lower_is_better", False)

    @property
    def modules(self) -> tuple[str, ...]:
        """The user's own, which workers get by value."""
        owns = [self.setting.preprocess, self.setting.postprocess, getattr(self.metric, "own", None)]
        return tuple(name for own in owns if own is not None for name in own.modules)


def held_out_data(feeds: Sequence[Feed]) -> Data:
    """Return calibration samples, which calibration did not see, as data without labels."""
    samples = [Sample(str(n), arrays=feed) for n, feed in enumerate(feeds)]
    return Data(Path("calibration"), samples, inputs={name: name for name in feeds[0]})


def usual_metric(data: Data) -> str:
    """Return the name of the task's metric where labels say what the task is; else the cosine to float."""
    if data.truth is not None:
        return "map"
    return "top1" if type(data.samples[0].label) is int else "cosine"


class Scorer:
    """Runs models on the samples of a test. model: the float one. Raises InputError, ModelError."""

    def __init__(self, model: ModelFile, test: Test) -> None:
        self._test, setting = test, test.setting
        self._float = model.open(threads=setting.threads, march=None, shapes=setting.shapes)
        other = replace(model, name=_QUANTIZED)
        runners = [self._float, self._float]
        evaluator = Evaluator([model, other], runners, test.data, [test.metric], setting, limit=test.limit)
        self._task, self.told = evaluator.task, (*test.data.told, *evaluator.as_given)
        chosen = [test.data.samples[n] for n in evaluator.chosen]
        size = self._task.together
        self._groups: list[Group] = [tuple(chosen[at : at + size]) for at in range(0, len(chosen), size)]
        self._kept: list[list[Seen]] | None = None

    @property
    def samples(self) -> int:
        """How many samples are judged."""
        return sum(len(group) for group in self._groups)

    def float(self) -> Judged:
        """Return the scores of the float model."""
        return self._judged(_pairs(self._firsts(), self._firsts()))

    def of(self, content: bytes) -> Judged:
        """Return the scores of a quantized model."""
        return self._judged(_pairs(self._seen(content), self._firsts()))

    def _seen(self, content: bytes) -> list[list[Seen]]:
        setting = self._test.setting
        file = ModelFile(_QUANTIZED, "", content)
        runner = file.open(threads=setting.threads, march=None, shapes=setting.shapes)
        work = Work(replace(self._task, models=(self._task.models[0], file)), [self._float, runner])
        return [work.seen(1, group, Changes(), {}) for group in self._groups]

    def parts(self, content: bytes) -> Scores:
        """Return the scores of a quantized model on all samples but each of a few groups of them, float64."""
        pairs = _pairs(self._seen(content), self._firsts())
        count = min(_PARTS, len(pairs))
        rest = [[pair for n, pair in enumerate(pairs) if n % count != k] for k in range(count)]
        return np.array([self._judged(part).score for part in rest], np.float64)

    def _firsts(self) -> list[list[Seen]]:
        """Return what the float model makes of every group."""
        if self._kept is not None:
            return self._kept
        work = Work(self._task, [self._float, self._float])
        found = [work.seen(0, group, Changes(), {}) for group in self._groups]
        size = sum(y.nbytes for group in found for seen in group for y in seen.outputs.values())
        if size <= _KEPT_BYTES:
            self._kept = found
        return found

    def _judged(self, pairs: list[tuple[Seen, Seen]]) -> Judged:
        """Return the scores of what a model and the float one make of the same samples."""
        metric = self._test.metric
        samples = [first.sample for _, first in pairs]
        figures = metric.figures([metric.record(*pair) for pair in pairs], samples, self._test.data)
        worst = (min if self._test.larger else max)(figures, key=lambda f: f.value)
        return Judged(worst.value, _worst_cosine(pairs), worst.is_share)


def _pairs(found: list[list[Seen]], firsts: list[list[Seen]]) -> list[tuple[Seen, Seen]]:
    return list(zip(chain.from_iterable(found), chain.from_iterable(firsts), strict=True))


def _worst_cosine(pairs: Sequence[tuple[Seen, Seen]]) -> float:
    """Return the least of the outputs' cosines, each the mean over the samples; 0 for other shapes."""
    names = pairs[0][1].outputs
    found = [
        [
            cosine(first.outputs[name], seen.outputs[name])
            if first.outputs[name].shape == seen.outputs[name].shape
            else 0.0
            for seen, first in pairs
        ]
        for name in names
    ]
    return min((sum(values) / len(values) for values in found), default=1.0)
