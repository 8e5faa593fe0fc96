"""The export itself: fold, trace with torch.onnx, tidy the graph, check it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.errors import ExportError, never_observed
from openbpu.quantization.torch.export.tidy import tidy
from openbpu.quantization.torch.export.translate import translations
from openbpu.quantization.torch.fake_quantize import FakeQuantState, fake_quantizers, unobserved
from openbpu.quantization.torch.qat import Weighted
from openbpu.quantization.torch.qtensor import unwrap
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
    for _, quantizer in fake_quantizers(frozen):
        quantizer.shared.batches = 1  # nothing to warn about: what could be wrong is refused here
    _check_observed(frozen, args)
    frozen.register_forward_hook(lambda _module, _args, output: unwrap(output))
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


def _check_observed(model: nn.Module, args: tuple[Any, ...]) -> None:
    """Refuse scales that were never observed, unless the forward does not come to their modules."""
    if not unobserved(model):
        return
    for _, quantizer in fake_quantizers(model):
        quantizer.used = False
    with torch.no_grad():
        model(*args)
    used = unobserved(model, used=True)
    if used:
        raise ExportError(never_observed("export", used))


def _traced(
    model: nn.Module,
    args: tuple[Any, ...],
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
) -> Any:
    with exporting(), torch.no_grad(), _quiet():
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what the exporter says about itself: deprecations, packages that are not needed."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            log.setLevel(before)


def _verify(proto: Any) -> None:
    import onnx  # noqa: PLC0415 - only for exporting

    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"export: the exporter made a model that ONNX's checker refuses: {error}"
        ) from error
