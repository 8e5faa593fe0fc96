"""`search`: the door."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError, must
from openbpu.arch.given_shapes import Shapes
from openbpu.arch.march import March
from openbpu.evaluation.accuracy.data import Data
from openbpu.evaluation.accuracy.evaluate import Setting
from openbpu.evaluation.accuracy.metrics import Metric, make_metrics
from openbpu.evaluation.accuracy.models import ModelFile, model_file
from openbpu.evaluation.distribution import Pool
from openbpu.evaluation.search.conclude import concluded
from openbpu.evaluation.search.result import Goal, Search
from openbpu.evaluation.search.score import Test, held_out_data, usual_metric
from openbpu.evaluation.search.sense import Senses
from openbpu.evaluation.search.trial import Bench, Job
from openbpu.evaluation.search.trials import Progress, Trials
from openbpu.evaluation.search.walk import walk
from openbpu.quantization.onnx import ConfigLike, Corrections, QuantConfig, read_config
from openbpu.quantization.onnx.config.write import config_mapping
from openbpu.quantization.onnx.groundwork import Groundwork, lay_ground
from openbpu.quantization.onnx.load import ModelLike
from openbpu.quantization.onnx.samples import Calibration

TRIALS = 40
"""Configurations that are tried where nobody says how many; most searches end with fewer."""
_JUDGED = 16
"""Calibration samples that stand for held-out ones where there are too few to hold some out."""
_USUAL_CORRECTIONS = Corrections()


def search(  # noqa: PLR0913  # an argument per question
    model: ModelLike,
    calibration: Calibration,
    *,
    goal: Goal | None = None,
    march: str | March = "nash-e",
    data: Data | None = None,
    metric: Metric | None = None,
    setting: Setting | None = None,
    limit: int | None = None,
    config: ConfigLike | None = None,
    method: str = "",
    tail: DType = DType.INT16,
    corrections: Corrections = _USUAL_CORRECTIONS,
    asymmetric: bool | None = None,
    hold_out: bool | None = None,
    shapes: Shapes | None = None,
    trials: int = TRIALS,
    pool: Pool | None = None,
    progress: Progress | None = None,
) -> Search:
    """Return which nodes of the float `model` should be int16, or float on the CPU, to meet `goal`.

    data, metric: what is judged by, as of `openbpu eval`; without data, calibration samples that are held out
    as `quantize(judge=True)` does · hold_out: whether samples are held out; None: where there is no data ·
    without a metric, top-1 where labels are classes, mAP where they are
    boxes, else the cosine to float of the worst output · setting: how samples become feeds · limit: so many
    samples of the data · config, method, tail, corrections, asymmetric: as of `quantize`, and kept: the
    search adds to them and leaves nodes alone that they give a type · march: whose latency counts · trials:
    configurations tried at most · pool: where they are tried, which changes nothing. Raises what `quantize`,
    `compile` and `evaluate` raise.
    """
    started = time.monotonic()
    asked = read_config(config)
    apart = data is None if hold_out is None else hold_out
    ground = lay_ground(model, calibration, asked, shapes, judge=apart)
    base = _base(asked, ground.names, method, tail, corrections, asymmetric=asymmetric)
    told: tuple[str, ...] = ()
    if data is None:
        data, told = _own_data(ground)
    shown = setting or Setting(shapes={name: tuple(shape) for name, shape in (shapes or {}).items()})
    test = Test(data, metric or make_metrics([usual_metric(data)])[0], shown, limit)
    work = pool or Pool()
    biases = corrections.bias_correction is not False
    job = Job(_file(model, work), ground.feeds, base, test, march, shapes, ground.fixed, biases=biases)
    bench = Bench(job)
    report = progress or (lambda _stage, _done, _total: None)
    tried = Trials(bench, goal or Goal(), work, trials, report)
    gains = walk(tried, Senses(bench, ground.fixed, work, report))
    found = concluded(tried, gains, told)
    return replace(found, seconds=time.monotonic() - started)


def _own_data(ground: Groundwork) -> tuple[Data, tuple[str, ...]]:
    """Return held-out samples, or, where there are none, those that calibrate, which is told."""
    if ground.held:
        return held_out_data(ground.held), ()
    used = ground.feeds[:_JUDGED]
    few = f"judged on {len(used)} samples that ranges were taken from: give 10 or more, or --data"
    return held_out_data(used), (few,)


def _file(model: ModelLike, pool: Pool) -> ModelFile:
    if isinstance(model, ModelProto):
        return ModelFile("the float model", "", model.SerializeToString())
    file = model_file(Path(model))
    return file if pool.sees([Path(model)]) else file.packed()


def _base(
    asked: QuantConfig,
    names: tuple[str, ...],
    method: str,
    tail: DType,
    corrections: Corrections,
    *,
    asymmetric: bool | None,
) -> dict[str, Any]:
    """Return everything that is asked for as one `quant_config`, so that its file says it all."""
    made = config_mapping(asked, names)
    model = made.setdefault("model_config", {})
    if asked.model.all_node_type not in {None, DType.INT8}:
        fix = "leave it out: the search begins with int8"
        actual = model["all_node_type"]
        raise InputError(must("--auto", "model_config.all_node_type", "int8", actual, fix))
    if tail is DType.INT8:
        model["all_node_type"] = "int8"
    activation, weight = dict(model.get("activation", {})), dict(model.get("weight", {}))
    if method and "calibration_type" not in activation:
        activation["calibration_type"] = method
    if asymmetric is not None:
        activation["asymmetric"] = asymmetric
    if corrections.equalisation:
        weight["equalisation"] = True
    if corrections.adaptive_rounding:
        weight["adaptive_rounding"] = True
    if corrections.bias_correction:
        weight.setdefault("bias_correction", {})
    model |= {key: value for key, value in (("activation", activation), ("weight", weight)) if value}
    return {section: content for section, content in made.items() if content}
