"""What the debugger's functions are given: the float model beside the calibrated one, and samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx import ModelProto

from openbpu.arch.errors import InputError, must
from openbpu.compat.hmct.data import calibration

_FLOAT, _STAGES = "_optimized_float_model.onnx", ("_calibrated_model.onnx", "_ptq_model.onnx")


def float_of(model: Any, given: Any) -> Any:
    """Return the float model: what is given, or the file beside the calibrated one."""
    if given is not None:
        return given
    if not isinstance(model, ModelProto):
        path = Path(model)
        for stage in _STAGES:
            beside = path.with_name(path.name.removesuffix(stage) + _FLOAT)
            if path.name.endswith(stage) and beside.is_file():
                return beside
    fix = "build_model(…, name_prefix=…) writes both; or give float_model="
    raise InputError(
        must("the debugger", "the float model", f"beside the calibrated one as *{_FLOAT}", "missing", fix)
    )


def given_data(given: Any, model: ModelProto) -> dict[str, Any]:
    """Return samples by input: of a mapping, or a folder with one per input, or with samples of one."""
    if given is None:
        raise InputError(must("the debugger", "calibrated_data", "given", "missing", "a mapping or a folder"))
    if isinstance(given, Mapping):
        return calibration(given, model, "the debugger")
    folder = Path(given)
    names = [value.name for value in model.graph.input]
    folders = {name: folder / name for name in names if (folder / name).is_dir()}
    return calibration(folders or {names[0]: folder}, model, "the debugger")
