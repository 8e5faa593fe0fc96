"""What the tests of `evaluate` run: models on arrays, and a module of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from openbpu.evaluation.accuracy import Evaluation
from openbpu.evaluation.accuracy.data import read_data
from openbpu.evaluation.accuracy.evaluate import Evaluator, Setting, open_evaluator
from openbpu.evaluation.accuracy.metrics import make_metrics
from openbpu.evaluation.accuracy.models import model_file
from openbpu.evaluation.distribution import Pool
from openbpu.quantization.samples import Pixels

ScoreOf = dict[tuple[str, str], float]
SIXTEENTH = Pixels(1 / 16)


def scores(found: Evaluation) -> ScoreOf:
    return {(Path(s.model).name, s.metric): s.value for s in found.scores}


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def evaluator_of(model: Path, data: Path, **options: Any) -> Evaluator:
    made, _ = open_evaluator(
        [model_file(model)],
        lambda inputs: read_data(data, inputs),
        make_metrics(options.pop("metrics", ["top1"])),
        Setting(**options.pop("setting", {})),
        **options,
    )
    return made


class Counted(Pool):
    """Counts what is worked on, and stops after `most`."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.count, self.most = 0, most

    def run(self, task: Any, items: Any, on_result: Any = None) -> Any:
        def counted(number: int, result: Any) -> None:
            on_result(number, result)
            self.count += 1
            if self.count == self.most:
                raise KeyboardInterrupt

        return super().run(task, items, counted)
