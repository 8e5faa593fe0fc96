"""The export itself: fold, trace with torch.onnx, tidy the graph, check it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.errors import ExportError
from openbpu.quantization.torch.export.tidy import tidy
from openbpu.quantization.torch.export.translate import translations
from openbpu.quantization.torch.fake_quantize import FakeQuantState, fake_quantizers
from openbpu.quantization.torch.qat import Weighted
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.scope import exporting

OPSET = 21
"""The first opset whose QuantizeLinear knows int16."""


def export(
    model: nn.Module,
    example_inputs: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Any:
    """Return the QDQ ONNX model (onnx.ModelProto) of a prepared or converted model, and write it to `path`.

    The model must be in eval() and FakeQuantState.VALIDATION, its scales observed. Weights are int8 or int16
    constants with a scale per output channel; every node keeps the module path and the source line of the
    user's code. example_inputs fixes the shapes: a tensor, or a tuple of arguments. Raises ExportError.
    """
    _check(model)
    frozen = deepcopy(model).cpu().eval()
    for module in frozen.modules():
        if isinstance(module, Quantized):
            module.integer = False
        if isinstance(module, Weighted):
            module.settle()
    args = tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    proto = _traced(frozen, args, input_names, output_names)
    tidy(proto)
    _verify(proto)
    if path is not None:
        import onnx  # noqa: PLC0415 - only for exporting

        onnx.save(proto, os.fspath(path))
    return proto


def _check(model: nn.Module) -> None:
    found = fake_quantizers(model)
    if not found:
        raise ExportError("export: the model has no fake quantizers; call prepare and calibrate first")
    if model.training:
        raise ExportError("export: the model must be in eval(), not in train(); call model.eval()")
    shared = found[0][1].shared
    if shared.state not in {None, FakeQuantState.VALIDATION}:
        raise ExportError(
            f"export: the state must be FakeQuantState.VALIDATION, not {shared.state}; call "
            "set_fake_quantize(model, FakeQuantState.VALIDATION)"
        )
    initial = [name for name, quantizer in found if quantizer.initial]
    if initial:
        raise ExportError(
            f"export: {len(initial)} scales were never observed ({', '.join(initial[:3])}, …); run "
            "calibration data through the model in FakeQuantState.CALIBRATION"
        )


def _traced(
    model: nn.Module,
    args: tuple[Any, ...],
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
) -> Any:
    for _, quantizer in fake_quantizers(model):
        quantizer.shared.batches = 1  # nothing to warn about: _check has looked
    with exporting(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (*args, {}),  # the last dict is taken for keyword arguments
            dynamo=True,
            opset_version=OPSET,
            custom_translation_table=translations(),
            input_names=input_names,
            output_names=output_names,
            verbose=False,
        )
    return program.model_proto


def _verify(proto: Any) -> None:
    import onnx  # noqa: PLC0415 - only for exporting

    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"export: the exporter made a model that ONNX's checker refuses: {error}"
        ) from error
