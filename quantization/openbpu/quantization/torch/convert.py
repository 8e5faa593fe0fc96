"""convert: a prepared model computes in integers, as the BPU does."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from torch import nn

from openbpu.quantization.torch.errors import ExportError, FloatValidationWarning, never_observed
from openbpu.quantization.torch.fake_quantize import (
    FakeQuantState,
    fake_quantizers,
    nothing_observed,
    unobserved,
)
from openbpu.quantization.torch.keywords import refuse_unknown
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.scope import warn_about


def convert(model: nn.Module, inplace: bool = False, **options: Any) -> nn.Module:
    """Return the model with every operator in the integer arithmetic of `openbpu.arch.numerics`.

    Its outputs equal, bit for bit, those of the simulator for the exported model on the march that is set.
    Operators that the BPU does not have are computed in float32, long sums in torch's order. It cannot be
    trained; `export` takes it like the prepared model. Raises ExportError for a model whose scales were never
    observed; a module that no calibration batch reached raises it when it is used. `options`: the vendor's;
    an unknown one is refused.
    """
    refuse_unknown("convert", options, _WITHOUT_EFFECT)
    found = fake_quantizers(model)
    if not found:
        raise ExportError("convert: the model has no fake quantizers; call prepare and calibrate first")
    initial = unobserved(model)
    if initial and nothing_observed(model):
        raise ExportError(never_observed("convert", initial))
    if found[0][1].shared.state is FakeQuantState.CALIBRATION:
        warn_about(
            model,
            "converted in FakeQuantState.CALIBRATION: what was evaluated so far is the float model, so this "
            "one may look much worse; evaluate in VALIDATION (set_fake_quantize) before you convert",
            FloatValidationWarning,
        )
    converted = model if inplace else deepcopy(model)
    converted.eval()
    for module in converted.modules():
        if isinstance(module, Quantized):
            module.integer = True
    for _path, quantizer in fake_quantizers(converted):
        quantizer.shared.state = FakeQuantState.VALIDATION
        quantizer.own = None
    return converted


_WITHOUT_EFFECT = frozenset({"mapping", "remove_qconfig", "fast_mode", "convert_custom_config_dict"})
"""The vendor's options of how a model is rebuilt: here it is the same modules in another mode."""


def convert_fx(model: nn.Module, inplace: bool = False, **options: Any) -> nn.Module:
    """The vendor's other name of `convert`."""
    return convert(model, inplace, **options)
