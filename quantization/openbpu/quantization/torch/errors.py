"""What can go wrong while a model is prepared, calibrated or exported, as errors and as named warnings."""

from __future__ import annotations

from collections.abc import Sequence

from openbpu.arch.errors import QuantizationError


class PrepareError(QuantizationError):
    """A model cannot be prepared, or its forward does what a quantized one cannot."""


class QTensorError(QuantizationError):
    """An operator met a QTensor that it has no rule for."""


class ExportError(QuantizationError):
    """A prepared model cannot be exported in its present state."""


def never_observed(where: str, paths: Sequence[str]) -> str:
    """The text about quantizers that are used although no calibration batch reached them."""
    listed = ", ".join(paths[:3]) + (", …" if len(paths) > 3 else "")
    return (
        f"{where}: every scale in use must be observed; {len(paths)} were never observed ({listed}); run "
        "calibration data through the model in FakeQuantState.CALIBRATION"
    )


class QuantizationWarning(UserWarning):
    """Base of the misuses that give wrong numbers without an error."""


class CalibrationInTrainModeWarning(QuantizationWarning):
    """A calibration model runs in train(): batch norm and dropout change what is observed."""


class StateNotSetWarning(QuantizationWarning):
    """set_fake_quantize was never called, so a calibration observes nothing."""


class EvalAfterStateWarning(QuantizationWarning):
    """eval() or train() was called between set_fake_quantize(CALIBRATION) and the first batch."""


class FloatValidationWarning(QuantizationWarning):
    """The model is evaluated in CALIBRATION: these are the float model's results."""


class QatEvaluationWarning(QuantizationWarning):
    """The model is evaluated in QAT: the evaluation data move the scales."""


class InitialScaleWarning(QuantizationWarning):
    """Scales still have their initial value 1: nothing was observed."""


class UnknownModuleWarning(QuantizationWarning):
    """A qconfig is given for a name that no module of the model has."""


class FusedQconfigWarning(QuantizationWarning):
    """A qconfig is given for a module that is fused with others, which share one rounding of another kind."""


class SharedModuleWarning(QuantizationWarning):
    """One module is called several times in a forward: its results share one scale."""


class CpuOperatorWarning(QuantizationWarning):
    """A converted model computes an operator in float32 because no BPU unit has it."""
