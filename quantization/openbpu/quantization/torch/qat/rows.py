"""Functions of rows that are made of several operators: log_softmax, attention, gates."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own custom

from openbpu.quantization.torch.dtype import QDType, qint8, qint16
from openbpu.quantization.torch.errors import QTensorError
from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.qat.decomposed import Decomposed, Form
from openbpu.quantization.torch.qtensor import QTensor
from openbpu.quantization.torch.scope import here
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
        """The parts."""
        del args, kwargs
        made = cls()
        made.build()
        return made

    def forward(self, input: Any, dim: int, *_: Any, **__: Any) -> Any:  # noqa: A002 - torch's own names
        """Along `dim`."""
        return self.along(input, dim)


class GLUForm(Decomposed, Form):
    """F.glu: one half times the sigmoid of the other."""

    @classmethod
    def of(cls, *args: Any, **kwargs: Any) -> GLUForm:
        """The parts."""
        del args, kwargs
        made = cls()
        made.sigmoid, made.mul = FloatFunctional(), FloatFunctional()
        return made

    def last(self) -> nn.Module:
        """The product."""
        found: nn.Module = self.mul
        return found

    def forward(self, input: Any, dim: int = -1) -> Any:  # noqa: A002 - torch's own names
        """Halves along `dim`."""
        left, right = input.chunk(2, dim)
        return self.mul.mul(left, self.sigmoid.sigmoid(right))


class AttentionForm(Decomposed, Form):
    """F.scaled_dot_product_attention without a mask: matmul, mul, softmax, matmul.

    The scores are int16 and the probabilities int8, so that no product has two int16 operands if query, key
    and value are int8.
    """

    @classmethod
    def of(
        cls,
        q: Any,
        k: Any,
        v: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **kwargs: Any,
    ) -> AttentionForm:
        """The parts; raises QTensorError for a mask."""
        del q, k, v, dropout_p
        if attn_mask is not None or is_causal or kwargs.get("enable_gqa"):
            raise QTensorError(
                f"{here()}: scaled_dot_product_attention must have no mask and no grouped heads, not "
                "attn_mask, is_causal or enable_gqa; write it out with matmul, masked_fill and softmax"
            )
        made = cls()
        made.scores, made.scale, made.softmax, made.output = (FloatFunctional() for _ in range(4))
        return made

    def last(self) -> nn.Module:
        """The product with the values."""
        found: nn.Module = self.output
        return found

    def part_dtype(self, part: nn.Module) -> QDType | None:
        """int16 scores, int8 probabilities."""
        if part is self.last():
            return None
        return qint8 if part is self.softmax else qint16

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **_: Any,
    ) -> Any:
        """softmax(q · kᵀ · scale) · v."""
        del attn_mask, is_causal
        factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        scores = self.scale.mul_scalar(self.scores.matmul(query, key.transpose(-2, -1)), factor)
        shares = self.softmax.softmax(scores, -1)
        return self.output.matmul(F.dropout(shares, dropout_p) if dropout_p else shares, value)
