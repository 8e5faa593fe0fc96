"""`evaluate`: the door from Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from openbpu.evaluation.accuracy.data import read_data
from openbpu.evaluation.accuracy.evaluate import Progress, Setting, open_evaluator
from openbpu.evaluation.accuracy.metrics import make_metrics
from openbpu.evaluation.accuracy.models import model_file
from openbpu.evaluation.accuracy.results import RESAMPLES, Evaluation
from openbpu.evaluation.distribution import Pool
from openbpu.evaluation.own import load_own
from openbpu.quantization.samples import Pixels

AnyPath = str | os.PathLike[str]


def evaluate(  # noqa: PLR0913 - an argument per question
    models: Sequence[AnyPath],
    data: AnyPath,
    metrics: Sequence[str] = ("top1",),
    *,
    labels: str = "",
    scores: str = "",
    pixels: Pixels | None = None,
    preprocess: str = "",
    postprocess: str = "",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    limit: int | None = None,
    resamples: int = RESAMPLES,
    threads: int = 1,
    workers: int = 0,
    scheduler: str = "",
    progress: Progress | None = None,
) -> Evaluation:
    """Return what the metrics say of every model on the same data, the others compared with the first.

    models: `.onnx` and `.hbm` files · data, labels: as of `read_data` · metrics: `top1`, `top5`, `map`,
    `map50`, `cosine` or `module:name` · scores: the output of class scores · pixels: what becomes of pixels ·
    preprocess, postprocess: `module:function` · limit: so many samples, spread over all · workers, scheduler:
    where it runs, which changes nothing of the result. Raises errors of openbpu, which say what to do.
    """
    setting = Setting(
        pixels or Pixels(),
        load_own("preprocess", preprocess) if preprocess else None,
        load_own("postprocess", postprocess) if postprocess else None,
        shapes or {},
        threads,
    )
    evaluator, _ = open_evaluator(
        [model_file(Path(m)) for m in models],
        lambda inputs: read_data(Path(data), inputs, labels=labels),
        make_metrics(metrics, scores=scores),
        setting,
        limit=limit,
    )
    evaluator.check()
    with Pool(workers=workers, scheduler=scheduler) as pool:
        return evaluator.run(pool, resamples=resamples, progress=progress)
