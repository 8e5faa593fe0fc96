"""Inputs and outputs as `hbdk4.compiler` describes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TensorType:
    """Shape and NumPy dtype of an input or output; of a compiled one also its strides in bytes."""

    shape: tuple[int, ...]
    np_dtype: Any
    _strides: tuple[int, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of the dense data."""
        return int(math.prod(self.shape) * np.dtype(self.np_dtype).itemsize)


@dataclass(frozen=True)
class QuantInfo:
    """How codes become values: (code − zero point) · scale; one each per element of `axis`."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0


@dataclass(frozen=True)
class Variable:
    """An input or output of a compiled file; scales and zero point where it is quantized."""

    name: str
    type: TensorType
    scales: tuple[float, ...] = ()
    zero_point: int = 0
    axis: int = 0
    desc: str = ""

    @property
    def quant_info(self) -> QuantInfo:
        """The scales and zero points; empty where it is not quantized."""
        return QuantInfo(self.scales, (self.zero_point,) * len(self.scales), self.axis)
