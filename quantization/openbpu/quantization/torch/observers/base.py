"""The form of an observer."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.dtype import QDType, as_qdtype, qint8
from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.keywords import check_grid
from openbpu.quantization.torch.scope import here
from openbpu.quantization.torch.usable import usable_range


def symmetric_scale(max_abs: torch.Tensor, dtype: QDType) -> torch.Tensor:
    """`observed_scale` of a `usable_range` on tensors: max|x| / ((qmax − qmin) / 2) in float32."""
    half = (dtype.max - dtype.min) / 2
    return (usable_range(max_abs.double()) / half).float()


def _on_every_rank(low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The range of what all processes of a distributed training saw: their scales stay equal."""
    group = torch.distributed
    if not (group.is_available() and group.is_initialized() and group.get_world_size() > 1):
        return low, high
    both = torch.stack([-low, high])
    group.all_reduce(both, group.ReduceOp.MAX)
    return -both[0], both[1]


class Observer(nn.Module):
    """Keeps `min_val` and `max_val` of what it sees; both are empty before the first batch.

    `ch_axis` >= 0 keeps one pair per channel. `fixed_scale` is set by observers that do not look at all.
    """

    min_val: torch.Tensor
    max_val: torch.Tensor
    fixed_scale: float | None = None

    def __init__(self, dtype: QDType | str = qint8, ch_axis: int = -1, **grid: Any) -> None:
        super().__init__()
        self.dtype, self.ch_axis = as_qdtype(dtype), ch_axis
        check_grid(type(self).__name__, self.dtype, grid)
        self.register_buffer("min_val", torch.tensor([]))
        self.register_buffer("max_val", torch.tensor([]))

    @classmethod
    def with_args(cls, **kwargs: Any) -> Any:
        """Return a factory of this observer with some arguments given."""
        return partial(cls, **kwargs)

    @property
    def observed(self) -> bool:
        """Whether any batch was seen."""
        return bool(self.min_val.numel())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Look at `x` and return it as it is; raises PrepareError for NaN and infinity."""
        if x.numel():
            with torch.no_grad():
                low, high = self.range_of(x.detach().float())
                if not bool((torch.isfinite(low) & torch.isfinite(high)).all()):
                    raise PrepareError(
                        f"{here()}: observed values must be finite, not NaN or infinity; look at the data, "
                        "at the learning rate, and at masks of -inf (a large negative number does as well)"
                    )
                self.update(*_on_every_rank(low, high))
        return x

    def range_of(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the range of one batch: [1] each, or [C] each along `ch_axis`."""
        if self.ch_axis < 0:
            low, high = torch.aminmax(x)
            return low.reshape(1), high.reshape(1)
        rows = x.movedim(self.ch_axis, 0).reshape(x.shape[self.ch_axis], -1)
        low, high = torch.aminmax(rows, dim=1)
        return low, high

    def update(self, low: torch.Tensor, high: torch.Tensor) -> None:
        """Merge the range of one batch into min_val and max_val."""
        if self.observed:
            low, high = torch.minimum(self.min_val, low), torch.maximum(self.max_val, high)
        self.min_val, self.max_val = low, high

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (scale float32, zero point int64), [1] or [C]; scale 1 before the first batch."""
        if self.fixed_scale is not None:
            return torch.tensor([self.fixed_scale]), torch.zeros(1, dtype=torch.int64)
        if not self.observed:
            return torch.ones(1), torch.zeros(1, dtype=torch.int64)
        scale = symmetric_scale(torch.maximum(-self.min_val, self.max_val), self.dtype)
        return scale, torch.zeros_like(scale, dtype=torch.int64)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for name in ("min_val", "max_val"):
            value = state_dict.get(prefix + name)
            if value is not None:
                setattr(self, name, torch.empty_like(value))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """As the vendor prints it."""
        return f"min_val={self.min_val}, max_val={self.max_val}"
