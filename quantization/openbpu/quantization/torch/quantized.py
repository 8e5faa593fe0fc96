"""Quantized: the base of every module that puts a quantizer behind its result."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.dtype import QDType
from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.fake_quantize import FakeQuantize
from openbpu.quantization.torch.hidden import Fill, Hiding, Whole
from openbpu.quantization.torch.qtensor import QTensor
from openbpu.quantization.torch.scope import here, scope


class Quantized(nn.Module):
    """`activation_post_process` rounds the result; without one the result is a high-precision QTensor.

    `raw`: the operator behind it, `rounded_by`, rounds, so nothing is rounded here; `takes_raw`: it reads
    such a result. `absorbed`: paths of the modules that were fused into it. `unquantized_at`: where, in
    prepare, a plain tensor came in. `result_dtype` overrides the qconfig's where the operator needs it;
    `input_dtypes` are those that it takes, where they differ.
    `hiding`, `observed_as`: what of the result counts for its range, where a softmax reads it masked, or a
    mask is made of it. `integer` switches to the integer arithmetic of a converted model. `bpu_path` is the
    module's path in the prepared model.
    """

    qconfig: Any = None
    integer: bool = False
    bpu_path: str = ""
    unquantized_at: str = ""
    raw: bool = False
    rounded_by: tuple[nn.Module, ...] = ()
    absorbed: tuple[str, ...] = ()
    takes_raw: bool = False
    result_dtype: QDType | None = None
    input_dtypes: tuple[QDType, ...] = ()
    hiding: Hiding | None = None
    observed_as: type[Whole | Fill] | None = None

    def attach_output(self, quantizer: FakeQuantize | None) -> None:
        """Set the quantizer of the result; None leaves it in high precision."""
        if quantizer is None:
            self._modules.pop("activation_post_process", None)
        else:
            self._modules["activation_post_process"] = quantizer

    def attach_input(self, factories: Any) -> None:
        """Set quantizers in front, which round the inputs once more: a factory for all, or one for each."""
        if factories is None:
            return
        each = factories if isinstance(factories, (tuple, list)) else [factories]
        made = [nn.Identity() if factory is None else factory() for factory in each]
        self._modules["activation_pre_process"] = made[0] if len(made) == 1 else nn.ModuleList(made)

    def requantized(self, value: Any) -> Any:
        """`value`, a nest of arguments, with its QTensors on the grids that are wanted of inputs."""
        found = self._modules.get("activation_pre_process")
        if found is None:
            return value
        each = iter(found) if isinstance(found, nn.ModuleList) else repeat(found)

        def one(part: Any) -> Any:
            if isinstance(part, QTensor):
                return self._on_grid_of(next(each, None), part)
            if isinstance(part, (tuple, list)):
                return type(part)(one(v) for v in part)
            return {k: one(v) for k, v in part.items()} if isinstance(part, dict) else part

        return one(value)

    def _on_grid_of(self, quantizer: Any, x: QTensor) -> QTensor:
        """Round `x` once more, where dtype or scale ask for it."""
        if not isinstance(quantizer, FakeQuantize) or (quantizer.dtype is x.dtype and not quantizer.fixed):
            return x
        if self.integer:
            from openbpu.quantization.torch.integer import rescaled  # noqa: PLC0415 - converted models only

            return rescaled(quantizer, x)
        result: QTensor = quantizer(x)
        return result

    @property
    def output_quantizer(self) -> FakeQuantize | None:
        """The quantizer of the result, if there is one."""
        found = self._modules.get("activation_post_process")
        return found if isinstance(found, FakeQuantize) else None

    def finish(self, name: str, y: Any, reads: Sequence[QTensor]) -> Any:
        """Make the result of an operator that read `reads` a QTensor; of several results, the first."""
        if isinstance(y, (tuple, list)):
            if any(torch.is_tensor(v) and v.is_floating_point() for v in y[1:]):
                raise PrepareError(f"{here()}: '{name}' has several float results; compute them one by one")
            return type(y)((self.finish(name, y[0], reads), *y[1:]))
        quantizer = self.output_quantizer
        result = QTensor(y, None) if quantizer is None else quantizer(y)
        if scope.recorder is not None:
            result.step = scope.recorder.note(name, self.bpu_path, self, reads, tuple(y.shape))
        return result

    def plain_input(self) -> None:
        """Note where a tensor came in that no QuantStub had quantized; behind prepare that is an error."""
        if scope.recorder is None:
            raise PrepareError(
                f"{here()}: the input of {self.bpu_path or type(self).__name__} must be quantized, not a "
                "plain tensor; put a QuantStub in front of it, or set its qconfig to None"
            )
        self.unquantized_at = here()
