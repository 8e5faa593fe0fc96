"""`usable_range` on tensors: which range a scale is made of where the values are as good as zero."""

from __future__ import annotations

import torch

from openbpu.quantization.ranges import SMALLEST_RANGE, ZERO_RANGE


def usable_range(max_abs: torch.Tensor) -> torch.Tensor:
    """Return max|x|, of any shape and float dtype, with ZERO_RANGE in the place of what counts as zero."""
    return torch.where(max_abs.double() < SMALLEST_RANGE, ZERO_RANGE, max_abs)
