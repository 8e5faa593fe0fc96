"""`openbpu quantize --auto`: its options, what is made of them, and what is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openbpu.cli import arguments, judging, outputs, quantizing
from openbpu.cli.quantizing import Job
from openbpu.cli.usage import WrongValue, share_option, whole_option

if TYPE_CHECKING:
    import numpy.typing as npt

    from openbpu.evaluation.accuracy.data import Data
    from openbpu.evaluation.accuracy.evaluate import Setting
    from openbpu.evaluation.search import Search

BUDGET = 0.01

Auto = Annotated[
    bool,
    typer.Option("--auto", help="Search which nodes to make int16, or to leave float, and do it."),
]
Budget = Annotated[
    float | None,
    share_option("--budget", about="With --auto: within so much of float, in the fewest simulated µs (1%)."),
]
Latency = Annotated[
    float | None,
    share_option("--latency", about="With --auto: so much longer at most (+10%); alone, the best then."),
]
JudgedBy = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR|FILE",
        help="With --auto: what is judged on, as of `openbpu eval`; else calibration samples held out.",
    ),
]
JudgedAs = Annotated[
    str,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="With --auto: top1, map, cosine, MODULE:NAME …; without, what the labels are for.",
    ),
]
Trials = Annotated[
    int,
    whole_option(
        "--trials", low=2, fix="40 is the default", about="With --auto: configurations tried, at most."
    ),
]
MOST = 40


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options of a search say, as they were given."""

    auto: bool
    budget: float | None
    latency: float | None
    data: Path | None
    metric: str
    labels: str
    classes: Path | None
    images: Path | None
    preprocess: str
    postprocess: str
    scores: str
    boxes: judging.Unit
    first_class: int
    class_ids: bool
    limit: int | None
    trials: int
    workers: int
    scheduler: str
    threads: int


_NOTHING = Asked(
    auto=False, budget=None, latency=None, data=None, metric="", labels="", classes=None, images=None,
    preprocess="", postprocess="", scores="", boxes=judging.Unit.PIXELS, first_class=0, class_ids=False,
    limit=None, trials=MOST, workers=0, scheduler="", threads=1,
)  # fmt: skip
_OF_DATA = ("labels", "classes", "images", "preprocess", "postprocess", "scores", "limit")


def config_path(output: Path) -> Path:
    """Return where the chosen `quant_config` goes: beside the model."""
    return output.with_name(f"{output.stem}.quant_config.yaml")


def check(asked: Asked, job: Job, config: Path | None) -> None:
    """Refuse options that do not go together, and files that cannot be written, before anything is done."""
    if not asked.auto:
        for name in Asked.__slots__:
            if getattr(asked, name) != getattr(_NOTHING, name):
                fix = "it is an option of the search"
                actual = getattr(asked, name)
                raise WrongValue("given with --auto", str(actual), fix, option=f"--{name.replace('_', '-')}")
        return
    _check_goal(asked)
    if job.int16:
        fix = "the search begins with int8 and makes int16 what needs it"
        raise WrongValue("left out with --auto", "--int16", fix, option="--int16")
    if asked.data is None:
        for name in _OF_DATA:
            if getattr(asked, name) != getattr(_NOTHING, name):
                fix = "it says how that is read"
                value = str(getattr(asked, name))
                raise WrongValue("given with --data", value, fix, option=f"--{name.replace('_', '-')}")
    arguments.refuse_both(asked.workers, asked.scheduler)
    target = config_path(job.output)
    if config is not None:
        outputs.refuse_overwriting(config, target)
    outputs.check_file(target)


def _check_goal(asked: Asked) -> None:
    for option, value in (("--budget", asked.budget), ("--latency", asked.latency)):
        if value is not None and value < 0:
            raise WrongValue("0 or more", f"{value:.2%}", "as 1% or 0.01", option=option)


def searched(
    asked: Asked,
    job: Job,
    data: Mapping[str, npt.NDArray[Any]],
    march: str,
    progress: Callable[[str, int, int], None] | None,
) -> Search:
    """Return the search; raises what it raises."""
    from openbpu.arch.dtypes import DType
    from openbpu.evaluation.accuracy.metrics import make_metrics
    from openbpu.evaluation.accuracy.metrics.boxes import Boxes
    from openbpu.evaluation.distribution import Pool
    from openbpu.evaluation.search import Goal, search
    from openbpu.evaluation.search.score import usual_metric

    judged = None if asked.data is None else _data(asked, job)
    metric = None
    if judged is not None or asked.metric:
        name = asked.metric or (usual_metric(judged) if judged is not None else "cosine")
        boxes = Boxes(asked.boxes.value, asked.first_class, asked.class_ids)
        metric = make_metrics([name], scores=asked.scores, boxes=boxes)[0]
    usual = BUDGET if asked.latency is None else None
    goal = Goal(usual if asked.budget is None else asked.budget, asked.latency)
    with Pool(workers=asked.workers, scheduler=asked.scheduler) as pool:
        return search(
            job.model,
            data,
            goal=goal,
            march=march,
            data=judged,
            metric=metric,
            setting=_setting(asked, job, judged),
            limit=asked.limit,
            config=job.types,
            method=job.method if job.method != "max" else "",
            tail=DType.INT8 if job.int8_tail else DType.INT16,
            corrections=job.corrections,
            asymmetric=job.asymmetric,
            hold_out=job.hold_out,
            shapes=job.shapes,
            trials=asked.trials,
            pool=pool,
            progress=progress,
        )


def _data(asked: Asked, job: Job) -> Data:
    from openbpu.evaluation.accuracy.data import read_data
    from openbpu.quantization.onnx.inputs import fed_inputs
    from openbpu.quantization.onnx.load import read_ends

    assert asked.data is not None  # noqa: S101  # the caller asked
    names = [value.name for value in fed_inputs(read_ends(job.model), job.shapes)]
    return read_data(asked.data, names, labels=asked.labels, classes=asked.classes, images=asked.images)


def _setting(asked: Asked, job: Job, data: Data | None) -> Setting:
    """Return how samples become feeds. Pixels are those of calibration, where the data has pixels."""
    from openbpu.evaluation.accuracy.evaluate import Setting
    from openbpu.evaluation.own import load_own
    from openbpu.quantization.samples import Pixels

    has_pixels = (
        data is not None
        and not asked.preprocess
        and (
            data.samples[0].path is not None
            or any(array.dtype.kind in "iu" for array in data.samples[0].arrays.values())
        )
    )
    return Setting(
        job.pixels if has_pixels else Pixels(),
        load_own("--preprocess", asked.preprocess) if asked.preprocess else None,
        load_own("--postprocess", asked.postprocess) if asked.postprocess else None,
        {name: tuple(shape) for name, shape in (job.shapes or {}).items()},
        asked.threads,
    )


def as_chosen(job: Job, found: Search) -> Job:
    """Return the job with the chosen config, which says all that the options said."""
    from openbpu.quantization.onnx import Corrections, read_config

    types = read_config(found.config)
    return replace(
        job,
        types=types,
        int8_tail=False,
        method="max",
        corrections=Corrections(bias_correction=False if denied(job) else None),
        asymmetric=None,
    )


def denied(job: Job) -> bool:
    """Whether biases must stay as they are, which a `quant_config` has no word for."""
    return job.corrections.bias_correction is False


def told(job: Job, found: Search, march: str) -> Iterator[str]:
    """Write the chosen config beside the model; yields what is told of the search, and what was written."""
    from openbpu.arch.files import write_text
    from openbpu.quantization.onnx.config.write import config_text
    from openbpu.report.search import config_comments, notes

    yield from notes(found)
    path = config_path(job.output)
    write_text(path, config_text(found.config, config_comments(found)))
    more = ("" if job.hold_out else " --no-hold-out") + (" --no-bias-correction" if denied(job) else "")
    on = "" if march == quantizing.CLOSING_MARCH else f" --march {march}"
    files = f"{job.model} --calib {job.calib} --quant-config {path}{on}{more} -o {job.output}"
    again = f"openbpu quantize {files}"
    yield f"wrote {path}; `{again}`, with the same options for pixels and shapes, makes the same bytes"


def document(job: Job, found: Search) -> dict[str, Any]:
    """Return what `--json` prints of a search."""
    from openbpu.report.search import search_json

    return {"quant_config": str(config_path(job.output))} | search_json(found)
