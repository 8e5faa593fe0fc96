"""Watches a prepared model's states for the misuses that give wrong numbers silently."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.errors import (
    CalibrationInTrainModeWarning,
    EvalAfterStateWarning,
    FloatValidationWarning,
    InitialScaleWarning,
    QatEvaluationWarning,
    QuantizationWarning,
    StateNotSetWarning,
)
from openbpu.quantization.torch.fake_quantize import (
    FakeQuantState,
    ModelState,
    fake_quantizers,
    nothing_observed,
    unobserved,
)
from openbpu.quantization.torch.scope import scope, warn_about

_TEXTS: dict[type[QuantizationWarning], str] = {
    CalibrationInTrainModeWarning: (
        "the calibration model is in train(): BatchNorm and Dropout change what is observed, and without "
        "set_fake_quantize this is QAT, not calibration; call model.eval() and then "
        "set_fake_quantize(model, FakeQuantState.CALIBRATION)"
    ),
    StateNotSetWarning: (
        "set_fake_quantize was never called: in eval() nothing is observed and the scales stay as they are; "
        "call set_fake_quantize(model, FakeQuantState.CALIBRATION or VALIDATION)"
    ),
    EvalAfterStateWarning: (
        "eval() or train() was called after set_fake_quantize(CALIBRATION): in the vendor's plugin this "
        "switches the observers off and the scales stay 1 (openbpu keeps observing); call eval() first"
    ),
    QatEvaluationWarning: (
        "the model is evaluated in QAT, which observes: these data move the scales; call "
        "set_fake_quantize(model, FakeQuantState.VALIDATION)"
    ),
    FloatValidationWarning: (
        "the model is evaluated in CALIBRATION, which does not quantize: these are the float "
        "model's results; call set_fake_quantize(model, FakeQuantState.VALIDATION)"
    ),
}


def watch(model: nn.Module) -> None:
    """Check the states of `model` at every forward of it."""
    model.register_forward_pre_hook(_check)
    model.register_forward_hook(_check_scales)


def _check(model: nn.Module, args: Any) -> None:
    del args
    found = fake_quantizers(model)
    if not found or _is_ours():
        return
    shared = found[0][1].shared
    for kind in _misuses(model, shared):
        _warn(model, shared, kind, _TEXTS[kind])
    shared.batches += 1
    shared.trained |= model.training
    shared.modes.clear()


def _is_ours() -> bool:
    """Whether openbpu itself runs the model: prepare, export."""
    return scope.recorder is not None or scope.exporting


def _misuses(model: nn.Module, shared: ModelState) -> list[type[QuantizationWarning]]:
    calibrating = shared.state is FakeQuantState.CALIBRATION
    unset = shared.state is None
    # Nobody trains without gradients, and nobody trains what is configured for calibration.
    meant = shared.calibrating or not torch.is_grad_enabled()
    # In eval() a trained or loaded QAT model rounds as it should, whether or not a state was set.
    settled = shared.trained or not (shared.calibrating or nothing_observed(model))
    found = {
        QatEvaluationWarning: shared.state is FakeQuantState.QAT and not model.training,
        CalibrationInTrainModeWarning: model.training and (calibrating or (unset and meant)),
        StateNotSetWarning: unset and not model.training and not settled,
        EvalAfterStateWarning: calibrating and bool(shared.modes) and shared.batches == 0,
        FloatValidationWarning: calibrating and shared.batches > 0 and False in shared.modes,
    }
    return [kind for kind, happened in found.items() if happened]


def _check_scales(model: nn.Module, args: Any, output: Any) -> None:
    """After the first batch: were there scales that nothing had been observed for?"""
    del args, output
    found = fake_quantizers(model)
    if not found or _is_ours() or found[0][1].shared.batches != 1:
        return
    shared = found[0][1].shared
    initial = [name.rpartition(".")[0] or name for name in unobserved(model, used=True)]
    if initial:
        listed = ", ".join(dict.fromkeys(initial[:5])) + (", …" if len(initial) > 5 else "")
        _warn(
            model,
            shared,
            InitialScaleWarning,
            f"{len(initial)} quantizers still have their initial scale 1 ({listed}): nothing was observed "
            "there; calibrate first, or load a calibrated checkpoint",
        )


def _warn(model: nn.Module, shared: ModelState, kind: type[QuantizationWarning], text: str) -> None:
    """Warn once per state."""
    if kind.__name__ not in shared.warned:
        shared.warned.add(kind.__name__)
        warn_about(model, text, kind)
