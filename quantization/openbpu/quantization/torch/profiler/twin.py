"""Models brought into a state in which their layers can be compared, and put back afterwards."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.attempt import attempt
from openbpu.quantization.torch.errors import PrepareError, QTensorError, QuantizationWarning
from openbpu.quantization.torch.fake_quantize import FakeQuantize, FakeQuantState, fake_quantizers
from openbpu.quantization.torch.prepare import prepare
from openbpu.quantization.torch.qtensor.tensor import unwrap
from openbpu.quantization.torch.setters import default_calibration_qconfig_setter


@dataclass(frozen=True, slots=True)
class Comparable:
    """A model and the state that its quantizers compute in while it is looked at, None for a float model."""

    model: nn.Module
    state: FakeQuantState | None

    @contextlib.contextmanager
    def settled(self) -> Iterator[nn.Module]:
        """Give the model in eval() and in its state; it is as before afterwards, and warns of nothing."""
        found = [quantizer for _, quantizer in fake_quantizers(self.model)]
        before = [quantizer.own for quantizer in found]
        modes = [(module, module.training) for module in self.model.modules()]
        shared = found[0].shared if found else None
        kept = None if shared is None else (list(shared.modes), shared.batches, set(shared.warned))
        try:
            for module, _ in modes:
                module.training = False
            for quantizer in found:
                quantizer.own = self.state
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", QuantizationWarning)
                yield self.model
        finally:
            for quantizer, state in zip(found, before, strict=True):
                quantizer.own = state
            for module, mode in modes:
                module.training = mode
            if shared is not None and kept is not None:
                shared.modes[:], shared.batches = kept[0], kept[1]
                shared.warned.clear()
                shared.warned.update(kept[2])


def comparable(model: nn.Module, inputs: Any, *, beside: nn.Module | None = None) -> Comparable:
    """Return a model whose layers are those of a prepared one.

    A float model is prepared, so that what is fused there is fused here and operators between modules are
    layers too, and rounds nothing. A prepared model that is calibrating is a float one as well; any other is
    looked at in VALIDATION. beside: the model that it stands beside; next to a float one a float model stays
    what it is. Raises nothing for a model that cannot be prepared: its own layers are what there is.
    """
    if fake_quantizers(model):
        state = fake_quantizers(model)[0][1].shared.state
        is_float = state in (FakeQuantState.CALIBRATION, FakeQuantState.FLOAT)
        return Comparable(model, FakeQuantState.FLOAT if is_float else FakeQuantState.VALIDATION)
    if beside is not None and not fake_quantizers(beside):
        return Comparable(model, None)
    twin = deepcopy(model)
    for module in twin.modules():
        module.training = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", QuantizationWarning)
            prepared = prepare(twin, inputs, default_calibration_qconfig_setter)
    except (PrepareError, QTensorError):
        return Comparable(model, None)
    return Comparable(prepared, FakeQuantState.FLOAT)


def outputs(
    model: nn.Module,
    inputs: Any,
    caller: str = "outputs",
    post_process: Callable[[Any], Any] | None = None,
) -> list[torch.Tensor]:
    """Return the float results of a model, in order, as plain tensors on the CPU.

    post_process: called with what the model returns; its result takes the place of that.
    """
    with torch.no_grad():
        result = attempt(caller, model, inputs, PrepareError)
        if post_process is not None:
            result = post_process(result)
    return [t.detach().cpu().float() for t in flat(result)]


def flat(value: Any) -> list[torch.Tensor]:
    """Return the plain float tensors of a nest."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in flat(v)]
    plain = unwrap(value)
    return [plain] if torch.is_tensor(plain) and plain.is_floating_point() else []


def quantizers(model: nn.Module, names: Sequence[str] = ()) -> list[tuple[str, FakeQuantize]]:
    """Return the quantizers that have seen data, or have a scale given."""
    return [(name, q) for name, q in fake_quantizers(model) if not q.initial and (not names or name in names)]
