"""Functions of rows that are made of several operators: log_softmax, gates."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.qat.decomposed import Decomposed, Form
from openbpu.quantization.torch.qtensor import QTensor
from openbpu.quantization.torch.segment_lut import SegmentLUT


def log_above_one(x: torch.Tensor) -> torch.Tensor:
    """log(max(x, 1)): a sum of exponentials whose largest is 1 is not below 1."""
    return torch.log(torch.clamp(x, min=1.0))


class LogSoftmaxParts(Decomposed):
    """max, sub, exp, sum, log, sub."""

    def build(self) -> None:
        """Make the parts."""
        self.max, self.shift, self.exp, self.sum = (FloatFunctional() for _ in range(4))
        self.log, self.sub = SegmentLUT(log_above_one, "log"), FloatFunctional()

    def last(self) -> nn.Module:
        """The second subtraction."""
        return self.sub

    def along(self, x: Any, dim: int) -> Any:
        """Return x − max − log(Σ exp(x − max)) along `dim`."""
        shifted = self.shift.sub(x, self.max.amax(x, dim, keepdim=True))
        total = self.sum.sum(self.exp.exp(shifted), dim, keepdim=True)
        return self.sub.sub(shifted, self.log(total))


class LogSoftmax(LogSoftmaxParts, nn.LogSoftmax):
    """nn.LogSoftmax with an axis."""

    def decompose(self) -> None:
        """Make the parts; called once when nn.LogSoftmax becomes this class."""
        self.build()

    def forward(self, x: Any) -> Any:
        """Along the module's axis."""
        if not isinstance(x, QTensor) or self.dim is None:
            return nn.LogSoftmax.forward(self, x)
        return self.along(x, self.dim)


class LogSoftmaxForm(LogSoftmaxParts, Form):
    """F.log_softmax, torch.log_softmax, Tensor.log_softmax."""

    @classmethod
    def of(cls, *args: Any, **kwargs: Any) -> LogSoftmaxForm:
        """Return a module with the parts that a call with these arguments needs."""
        del args, kwargs
        made = cls()
        made.build()
        return made

    def forward(self, input: Any, dim: int, *_: Any, **__: Any) -> Any:  # noqa: A002 - torch's own names
        """Compute it along `dim`, each part rounded."""
        return self.along(input, dim)


class GLUForm(Decomposed, Form):
    """F.glu: one half times the sigmoid of the other."""

    @classmethod
    def of(cls, *args: Any, **kwargs: Any) -> GLUForm:
        """Return a module with the parts that a call with these arguments needs."""
        del args, kwargs
        made = cls()
        made.sigmoid, made.mul = FloatFunctional(), FloatFunctional()
        return made

    def last(self) -> nn.Module:
        """The product makes the result."""
        found: nn.Module = self.mul
        return found

    def forward(self, input: Any, dim: int = -1) -> Any:  # noqa: A002 - torch's own names
        """Halves along `dim`."""
        left, right = input.chunk(2, dim)
        return self.mul.mul(left, self.sigmoid.sigmoid(right))
