"""The export itself: fold, trace with torch.onnx, tidy the graph, check it."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from openbpu.arch.errors import ModelError, OpenbpuError
from openbpu.quantization.torch.attempt import attempt, first_line
from openbpu.quantization.torch.errors import ExportError, never_observed
from openbpu.quantization.torch.export.strip import stripped
from openbpu.quantization.torch.export.tidy import tidy
from openbpu.quantization.torch.export.translate import translations
from openbpu.quantization.torch.fake_quantize import FakeQuantState, fake_quantizers, unobserved
from openbpu.quantization.torch.qat import Weighted
from openbpu.quantization.torch.qtensor import unwrap
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.scope import exporting, where

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
    _try(frozen, example_inputs)
    frozen.register_forward_hook(lambda _model, _args, output: tensors_of(unwrap(output)))
    args = tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    if getattr(model, "stripped", False):
        frozen, args, names = stripped(frozen, args)
        input_names = names if input_names is None else input_names
    proto = _traced(frozen, args, input_names, output_names)
    tidy(proto)
    _verify(proto)
    if path is not None:
        _write(proto, path)
    return proto


def tensors_of(value: Any) -> Any:
    """The result of a forward as ONNX has it: numbers, strings and None of the script are left out."""
    if isinstance(value, dict):
        kept = {k: tensors_of(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v is not None}
    if isinstance(value, (tuple, list)):
        items = [v for v in map(tensors_of, value) if v is not None]
        return tuple(items) if items else None
    return None if isinstance(value, (bool, int, float, complex, str, bytes)) else value


def _write(proto: Any, path: str | os.PathLike[str]) -> None:
    from openbpu.quantization.save import write_model  # noqa: PLC0415 - imports onnx: only for exporting

    try:
        write_model(proto, path)
    except ModelError as error:
        raise ExportError(str(error)) from error


def _check(model: nn.Module) -> None:
    found = fake_quantizers(model)
    if not found:
        raise ExportError("export: the model has no fake quantizers; call prepare and calibrate first")
    if model.training:
        raise ExportError("export: the model must be in eval(), not in train(); call model.eval()")
    for name, quantizer in found:
        state = quantizer.own or quantizer.shared.state
        if state not in {None, FakeQuantState.VALIDATION}:
            raise ExportError(
                f"export: the state must be FakeQuantState.VALIDATION, not {state} ({name}); call "
                "set_fake_quantize(model, FakeQuantState.VALIDATION)"
            )


def _try(model: nn.Module, example_inputs: Any) -> None:
    """Run the model once; refuses wrong inputs, and scales that it needs and that were never observed."""
    for _, quantizer in fake_quantizers(model):
        quantizer.used, quantizer.own = False, None
        quantizer.shared.state = FakeQuantState.VALIDATION
        quantizer.shared.batches = 1  # nothing to warn about: what could be wrong is refused here
    with torch.no_grad():
        attempt("export", model, example_inputs, ExportError)
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
        try:
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
        except OpenbpuError:
            raise
        except Exception as error:
            own = _own_cause(error)
            if own is not None:
                raise own from error
            raise ExportError(_untraceable(error, model)) from error
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's exporter from talking: its warnings concern other tools, its errors are told by ours."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # where it prints whole graphs
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _causes(error: BaseException) -> list[BaseException]:
    found = [error]
    while (before := found[-1].__cause__) is not None and before not in found:
        found.append(before)
    return found


def _own_cause(error: BaseException) -> OpenbpuError | None:
    return next((e for e in _causes(error) if isinstance(e, OpenbpuError)), None)


def _untraceable(error: BaseException, model: nn.Module) -> str:
    """Why torch.export gave up, with the user's module and line."""
    cause = _causes(error)[-1]
    if "data-dependent" in str(cause).lower():
        return (
            f"{where(error, model)}: a value decides what the forward does (data-dependent control flow), "
            "which no compiled model can; use torch.where or a mask, or leave the branch to the code that "
            "calls the model"
        )
    return (
        f"{where(error, model)}: torch.export must be able to trace the forward, not stop with "
        f"{type(cause).__name__}: {first_line(cause)}; write this part with torch functions of static shape, "
        "or take it out of the model that is exported"
    )


def _verify(proto: Any) -> None:
    import onnx  # noqa: PLC0415 - only for exporting

    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"export: the exporter made a model that ONNX's checker refuses: {error}"
        ) from error
