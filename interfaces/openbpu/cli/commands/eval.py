"""Models on labelled data, side by side: eval."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from openbpu.cli import arguments, evaluating, judging
from openbpu.cli.app import command
from openbpu.cli.eval_files import Files
from openbpu.cli.screen import note, progress, say_if_kernels_compile, show, show_json
from openbpu.cli.usage import WrongValue

if TYPE_CHECKING:
    from openbpu.evaluation.accuracy import Evaluation
    from openbpu.evaluation.accuracy.evaluate import Evaluator
    from openbpu.evaluation.accuracy.models import Runner
    from openbpu.evaluation.distribution import Pool

_SECONDS = 2.0
"""Between two looks at the scores so far."""


@command("eval")
def eval_(  # noqa: PLR0917  # an argument per option
    models: evaluating.Models,
    data: evaluating.Data,
    metric: evaluating.Metrics,
    labels: judging.Labels = "",
    classes: judging.Classes = None,
    images: judging.Images = None,
    scale: arguments.Scale = None,
    mean: arguments.Mean = "0",
    std: arguments.Std = "1",
    preprocess: judging.Preprocess = "",
    postprocess: judging.Postprocess = "",
    scores: judging.Scores = "",
    boxes: judging.Boxes = judging.Unit.PIXELS,
    first_class: judging.FirstClass = 0,
    class_ids: judging.ClassIds = False,
    shape: arguments.Shapes = None,
    limit: judging.Limit = None,
    resamples: evaluating.Resamples = 500,
    output: evaluating.Output = None,
    per_class: evaluating.PerClass = None,
    records: evaluating.Records = None,
    resume: evaluating.Resume = None,
    workers: arguments.Workers = 0,
    scheduler: arguments.Scheduler = "",
    threads: arguments.Threads = 1,
    march: arguments.OwnMarch = None,
    min_accuracy: evaluating.MinAccuracy = None,
    max_drop: evaluating.MaxDrop = None,
    page: arguments.Page = None,
    json: arguments.Json = False,
) -> None:
    """How good are these models on your data? Float, quantized and .hbm side by side.

    Every model sees the same samples. Scores come with intervals of 95 %, and with the probability that a
    difference to the first model is chance. The result does not depend on --workers.
    """
    pixels, sizes = arguments.pixels(scale, mean, std), arguments.shapes(shape)
    files = Files(output, records, resume, per_class, page)
    files.check(models)
    arguments.refuse_both(workers, scheduler)
    _refuse_drop(max_drop, models)
    arguments.readable(*models, *([classes] if classes else []))
    from openbpu.evaluation.accuracy.data import read_data
    from openbpu.evaluation.accuracy.evaluate import Setting, open_evaluator
    from openbpu.evaluation.accuracy.metrics import make_metrics
    from openbpu.evaluation.accuracy.metrics.boxes import Boxes
    from openbpu.evaluation.accuracy.models import model_file
    from openbpu.evaluation.distribution import Pool
    from openbpu.evaluation.own import load_own

    names = [name for text in metric for name in text.split(",") if name.strip()]
    metrics = make_metrics(names, scores=scores, boxes=Boxes(boxes.value, first_class, class_ids))
    setting = Setting(
        pixels,
        load_own("--preprocess", preprocess) if preprocess else None,
        load_own("--postprocess", postprocess) if postprocess else None,
        sizes or {},
        threads,
        march,
    )
    evaluator, runners = open_evaluator(
        [model_file(m) for m in models],
        lambda inputs: read_data(data, inputs, labels=labels, classes=classes, images=images),
        metrics,
        setting,
        limit=limit,
    )
    _say_what_compiles(runners)
    evaluator.check()
    with Pool(workers=workers, scheduler=scheduler) as pool:
        found = _run(evaluator, pool, files, resamples)
    failures = found.failures(at_least=min_accuracy, at_most_lost=max_drop)
    files.write(found, models, resamples, failures)
    _show(found, data, resamples, json=json)
    for text in failures:
        note(f"openbpu: {text}")
    if failures:
        raise typer.Exit(1)


def _run(evaluator: Evaluator, pool: Pool, files: Files, resamples: int) -> Evaluation:
    """Evaluate with a bar; says what was found, and what is kept, where that is cut short."""
    from openbpu.report.accuracy import in_brief

    done, shown_at, so_far = 0, -_SECONDS, ""
    with progress() as report:

        def told(count: int, total: int) -> None:
            nonlocal done, shown_at, so_far
            done = count
            if report is None:
                return
            if time.monotonic() - shown_at > _SECONDS:
                so_far, shown_at = in_brief(evaluator.so_far()), time.monotonic()
            report(f"{count} of {total} samples: {so_far}", count / total)

        try:
            return evaluator.run(
                pool,
                records=files.records_at,
                resume=files.resume is not None,
                resamples=resamples,
                progress=told,
            )
        except BaseException:
            if done:
                note(files.left_behind(done, len(evaluator.chosen), in_brief(evaluator.so_far())))
            raise


def _show(found: Evaluation, data: Path, resamples: int, *, json: bool) -> None:
    from openbpu.report.accuracy import accuracy_json, accuracy_table, class_tables, sentences

    if json:
        show_json({"data": str(data)} | accuracy_json(found))
        return
    for text in found.told:
        note(text)
    show(accuracy_table(found), *class_tables(found), *sentences(found, resamples))


def _say_what_compiles(runners: Sequence[Runner]) -> None:
    for runner in runners:
        session = getattr(runner, "session", None)
        if session is not None:
            say_if_kernels_compile(session.program)


def _refuse_drop(max_drop: float | None, models: Sequence[Path]) -> None:
    if max_drop is not None and len(models) == 1:
        fix = "name the model to compare with first"
        raise WrongValue("left out for one model", max_drop, fix, option="--max-drop")
