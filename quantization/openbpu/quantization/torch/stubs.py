"""QuantStub and DeQuantStub: where a model enters and leaves the quantized world."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.qtensor.tensor import QTensor, unwrap
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.scope import here, scope


def _is_scale(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 < value < float("inf")


class QuantStub(nn.Module):
    """Marks a tensor to be quantized; does nothing in a float model.

    scale: a fixed scale, e.g. 1/128 for an image from the pyramid; None observes. zero_point: None or 0.
    """

    def __init__(
        self, scale: float | None = None, zero_point: int | None = None, qconfig: Any = None
    ) -> None:
        super().__init__()
        if zero_point not in (None, 0):
            raise ValueError(f"QuantStub: zero_point must be 0 or None (symmetric), not {zero_point}")
        if scale is not None and not _is_scale(scale):
            raise ValueError(f"QuantStub: scale must be a number above 0, or None to observe, not {scale!r}")
        self.scale, self.zero_point = scale, zero_point
        if qconfig is not None:
            self.qconfig = qconfig

    def forward(self, x: Any) -> Any:
        """Return `x`."""
        return x

    def extra_repr(self) -> str:
        """The fixed scale, if there is one."""
        return "" if self.scale is None else f"scale={self.scale}"


class DeQuantStub(nn.Module):
    """Marks where values become plain floats; does nothing in a float model."""

    def __init__(self, qconfig: Any = None) -> None:
        super().__init__()
        if qconfig is not None:
            self.qconfig = qconfig

    def forward(self, x: Any) -> Any:
        """Return `x` as a plain tensor."""
        return unwrap(x)


class QATQuantStub(Quantized):
    """A QuantStub of a prepared model: plain float in, QTensor out."""

    scale: float | None
    zero_point: int | None
    varies: bool = True
    """Whether what it reads depends on the model's inputs."""

    def forward(self, x: Any) -> Any:
        """Quantize `x`; a QTensor is quantized again to this stub's scale."""
        reads = [x] if isinstance(x, QTensor) else []
        if scope.varies is not None and not reads:
            self.varies = isinstance(x, torch.Tensor) and scope.varies(x)
        if scope.stripped is not None and self.varies and not reads:
            x = scope.stripped.begin(self, x)
        plain = unwrap(x)
        if not hasattr(plain, "is_floating_point"):
            raise PrepareError(f"{here()}: QuantStub takes one tensor, not a {type(plain).__name__}")
        if not plain.is_floating_point():
            raise PrepareError(
                f"{here()}: QuantStub takes a float tensor, not {plain.dtype}; convert with .to(torch.float)"
            )
        if plain.dtype != torch.float32 and not torch.is_autocast_enabled(plain.device.type):
            raise PrepareError(
                f"{here()}: QuantStub takes a float32 tensor, not {plain.dtype}; convert model and input "
                "with .float()"
            )
        if self.integer:
            from openbpu.quantization.torch.integer import quantize  # noqa: PLC0415 - converted models only

            return quantize(self, x)
        return self.finish("quant", plain, reads)

    def _get_name(self) -> str:
        return "QuantStub"


class QATDeQuantStub(Quantized):
    """A DeQuantStub of a prepared model: QTensor in, plain float out."""

    def forward(self, x: Any) -> Any:
        """Return the plain values."""
        if scope.recorder is not None and isinstance(x, QTensor):
            scope.recorder.note("dequant", self.bpu_path, self, [x], ())
        y = unwrap(x)
        return y if scope.stripped is None else scope.stripped.end(y)

    def _get_name(self) -> str:
        return "DeQuantStub"
