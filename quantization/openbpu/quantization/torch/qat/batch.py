"""BatchNorm: what its running statistics make of a channel, and the one that has none."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from openbpu.quantization.torch.qat.norm import Normalization
from openbpu.quantization.torch.qtensor import QTensor


def gain_of(bn: Any) -> torch.Tensor:
    """Factor per channel [C]: weight / sqrt(running variance + eps); a norm without affine has weight 1."""
    spread = torch.sqrt(bn.running_var + bn.eps)
    return torch.reciprocal(spread) if bn.weight is None else bn.weight / spread


def bias_of(bn: Any) -> torch.Tensor:
    """The norm's own bias [C]; zeros where it has none."""
    return torch.zeros_like(bn.running_mean) if bn.bias is None else bn.bias


def has_statistics(bn: Any) -> bool:
    """Whether a BatchNorm keeps running statistics, so that it is one factor and one bias per channel."""
    return bn.running_mean is not None


class BatchStatistics(Normalization):
    """A BatchNorm that keeps no statistics: each channel over the batch at hand, in eval() as well."""

    num_features: int
    eps: float
    affine: bool
    weight: torch.Tensor
    bias: torch.Tensor

    def decompose(self) -> None:
        """Make the parts; called once when a BatchNorm becomes this class."""
        self.build(self.eps, centred=True, weight=self.affine, bias=self.affine)

    def forward(self, x: Any) -> Any:
        """Normalize [N, C, …] over all axes but the channels."""
        if not isinstance(x, QTensor):
            return super().forward(x)
        channels = x.transpose(0, 1)
        rows = self.normalized(channels.reshape(self.num_features, -1), (-1,))
        y = rows.reshape(channels.shape).transpose(0, 1)
        per_channel = (1, -1, *([1] * (x.ndim - 2)))
        parts = (self.weight, self.bias) if self.affine else (None, None)
        return self.scaled(y, *(None if v is None else v.reshape(per_channel) for v in parts))


def _mixed(kind: type[_BatchNorm]) -> type[BatchStatistics]:
    text = f"nn.{kind.__name__} without statistics."
    made = type(kind.__name__, (BatchStatistics, kind), {"__doc__": text})
    made.__module__ = __name__
    return made


BATCH_STATISTICS: dict[type, type[BatchStatistics]] = {
    kind: _mixed(kind) for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
}
globals().update({cls.__name__: cls for cls in BATCH_STATISTICS.values()})  # so that pickle finds them
