"""A float model on its way to a binary, and the files that the vendor's tools leave of each stage."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto

from openbpu.arch.errors import ModelError, must
from openbpu.arch.given_shapes import Shapes
from openbpu.evaluation.closing import Closing
from openbpu.evaluation.for_march import quantized_for
from openbpu.quantization.onnx import (
    Calibration,
    Choice,
    Method,
    QuantConfig,
    is_quantized,
    optimized,
    quantize,
    quantize_random,
    read_float,
)
from openbpu.quantization.save import write_model


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be quantized, and how. bpu_ops: operators and nodes asked onto the BPU."""

    model: ModelProto
    march: str
    config: QuantConfig
    method: Method = "max"
    shapes: Shapes | None = None
    bpu_ops: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Stages:
    """The models. choice, closing, floats: of the quantization; None and empty where there was none."""

    original: ModelProto
    optimized: ModelProto
    quantized: ModelProto
    choice: Choice | None = None
    closing: Closing | None = None
    floats: tuple[str, ...] = ()


def read(model: str | os.PathLike[str] | ModelProto) -> ModelProto:
    """Return a model with its weights; raises ModelError for a file that is none."""
    if not isinstance(model, ModelProto) and not Path(model).is_file():
        raise ModelError(must(os.fspath(model), "the model", "an ONNX file", "missing", "check the path"))
    return read_float(model)


def staged(order: Order, data: Calibration | None) -> Stages:
    """Quantize on `data`; without it with ranges from noise, which is right for latency only.

    A model that is quantized already stays as it is. Raises what `quantize` raises.
    """
    model = order.model
    if is_quantized(model):
        return Stages(model, model, model)
    simple = optimized(model, order.shapes)
    if data is None:
        return Stages(model, simple, quantize_random(model, shapes=order.shapes))

    def make(config: QuantConfig) -> tuple[ModelProto, Choice]:
        chosen: list[Choice] = []
        made = quantize(
            model,
            data,
            method=order.method,
            config=config,
            shapes=order.shapes,
            judge=True,
            told=chosen.append,
        )
        return made, chosen[0]

    found = quantized_for(make, model, order.config, order.march, shapes=order.shapes, bpu_ops=order.bpu_ops)
    return Stages(model, simple, found.model, found.choice, found.closing, found.floats)


def write_stages(stages: Stages, prefix: Path, last: str = "ptq") -> tuple[Path, ...]:
    """Write the models as `<prefix>_<stage>_model.onnx`; returns the paths.

    last: what the quantized one is called, beside "calibrated": "ptq", or "quantized" for older marches.
    """
    prefix.parent.mkdir(parents=True, exist_ok=True)
    models = {
        "original_float": stages.original,
        "optimized_float": stages.optimized,
        "calibrated": stages.quantized,
        last: stages.quantized,
    }
    paths = {stage: prefix.with_name(f"{prefix.name}_{stage}_model.onnx") for stage in models}
    for stage, path in paths.items():
        write_model(models[stage], path)
    return tuple(paths.values())
