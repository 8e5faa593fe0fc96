"""SegmentLUT: any function of one variable as a table of the BPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from openbpu.quantization.torch.functional import FloatFunctional


class SegmentLUT(FloatFunctional):
    """`function` (a torch function of one tensor) as one table: 256 entries for int8, 64 segments for int16.

    The result has a scale of its own, and so has every other place where the same function is used.
    """

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], name: str = "") -> None:
        super().__init__()
        self.function = function
        self.function_name = name or getattr(function, "__name__", "lut")

    def forward(self, x: Any) -> Any:
        """Return function(x)."""
        return self.call("lut", self.function, (x,), {})

    def extra_repr(self) -> str:
        """The function's name."""
        return self.function_name
