"""`hmct.api`: a float ONNX model is quantized, or looked at, for a march."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx import ModelProto

from openbpu.arch.errors import QuantizationError, must
from openbpu.compat.hmct.data import calibration
from openbpu.compat.march import march_name
from openbpu.compat.placement import placement_text
from openbpu.compat.screen import say
from openbpu.compat.stages import Order, read, staged, write_stages
from openbpu.evaluation.foresight import foresee
from openbpu.quantization.onnx import read_config

__all__ = ["build_model", "check_model"]

ModelLike = str | os.PathLike[str] | ModelProto
_KNOWN = frozenset({"save_model", "check_mode", "optimize_level", "log_level", "core_num"})
"""Options of the vendor's that change no value."""


def build_model(  # noqa: PLR0913  # the vendor's arguments
    onnx_model: ModelLike | None = None,
    march: Any = None,
    cali_dict: Mapping[str, Any] | None = None,
    *,
    onnx_file: ModelLike | None = None,
    cali_data: Mapping[str, Any] | None = None,
    quant_config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    input_dict: Mapping[str, Any] | None = None,
    name_prefix: str = "",
    verbose: bool = False,
    **options: Any,
) -> ModelProto:
    """Return the QDQ model of a float one, made with `cali_data` (or `cali_dict`).

    Those map inputs to lists of arrays or to folders; without any, ranges come from noise, for latency only.
    quant_config: a mapping, or a JSON or YAML file · input_dict: {input: {"input_shape": [1, 3, 224, 224]}},
    sizes of free axes · name_prefix: `<prefix>_original_float_model.onnx`, `…_optimized_float…`,
    `…_calibrated…` and `…_ptq…` are written · verbose: print the placement. Raises ModelError,
    QuantizationError, InputError.
    """
    _refuse_unknown("build_model", options)
    model, name = _model("build_model", onnx_model, onnx_file), _march("build_model", march)
    given = cali_data if cali_data is not None else cali_dict
    data = None if given is None else calibration(given, model, "build_model")
    if data is None:
        say("build_model: no calibration data, so ranges come from noise: right for latency, not for values")
    order = Order(model, name, read_config(quant_config), shapes=_shapes(input_dict))
    stages = staged(order, data)
    if verbose and stages.closing is not None:
        say(placement_text(stages.closing.placement))
    if name_prefix:
        for path in write_stages(stages, Path(name_prefix)):
            say(f"wrote {path}")
    return stages.quantized


def check_model(
    onnx_model: ModelLike | None = None,
    march: Any = None,
    *,
    onnx_file: ModelLike | None = None,
    quant_config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    input_dict: Mapping[str, Any] | None = None,
    **options: Any,
) -> int:
    """Print where every node will run once the model is quantized, and why; returns 0. Raises ModelError."""
    _refuse_unknown("check_model", options)
    model, name = _model("check_model", onnx_model, onnx_file), _march("check_model", march)
    config = None if quant_config is None else read_config(quant_config)
    found = foresee(model, march=name, shapes=_shapes(input_dict), config=config)
    say(placement_text(found.placement))
    return 0


def _model(where: str, *given: ModelLike | None) -> ModelProto:
    found = next((m for m in given if m is not None), None)
    if found is None:
        raise QuantizationError(must(where, "onnx_model or onnx_file", "given", "missing"))
    return read(found)


def _march(where: str, march: Any) -> str:
    if march is None:
        fix = 'give march="nash-e" or another one of `openbpu march`'
        raise QuantizationError(must(where, "march", "given", "missing", fix))
    return march_name(march)


def _shapes(given: Mapping[str, Any] | None) -> dict[str, list[int]] | None:
    """Return the sizes of inputs: each a list, or a mapping with "input_shape"."""
    if not given:
        return None
    found = {}
    for name, value in given.items():
        shape = value.get("input_shape") if isinstance(value, Mapping) else value
        if shape is not None:
            found[name] = [int(size) for size in shape]
    return found


def _refuse_unknown(where: str, options: Mapping[str, Any]) -> None:
    for name in options:
        if name not in _KNOWN:
            fix = "leave it out, or say it in quant_config"
            raise QuantizationError(must(where, "a keyword", "one that openbpu knows", f"'{name}'", fix))
