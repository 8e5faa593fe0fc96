"""prepare and prepare_qat_fx as the vendor's scripts know them: they leave reports where the script runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from openbpu.quantization import torch as plugin
from openbpu.quantization.torch import PrepareMethod

__all__ = ["prepare", "prepare_qat_fx"]


def prepare(
    model: Any,
    example_inputs: Any = None,
    qconfig_setter: Any | Sequence[Any] | None = None,
    method: PrepareMethod = PrepareMethod.SYMBOLIC,
    inplace: bool = False,
    *,
    report_dir: str | os.PathLike[str] | None = None,
) -> Any:
    """openbpu.quantization.torch.prepare with report_dir="."; eager mode has no inputs to run."""
    folder = report_dir
    if report_dir is None and example_inputs is not None and method is not PrepareMethod.EAGER:
        folder = "."
    return plugin.prepare(model, example_inputs, qconfig_setter, method, inplace, report_dir=folder)


def prepare_qat_fx(
    model: Any, qconfig_dict: Mapping[str, Any] | Any, example_inputs: Any = None, hybrid: bool = False
) -> Any:
    """openbpu.quantization.torch.prepare_qat_fx; with example_inputs, and report_dir="."."""
    prepared = plugin.prepare_qat_fx(model, qconfig_dict, example_inputs, hybrid)
    if example_inputs is not None:
        plugin.check_qat_model(prepared, example_inputs, save_results=True)
    return prepared
