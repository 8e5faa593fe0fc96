"""Inputs and outputs as `hbdk4.compiler` describes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TensorType:
    """Shape and NumPy dtype of an input or output."""

    shape: tuple[int, ...]
    np_dtype: Any

    @property
    def nbytes(self) -> int:
        """Bytes of the dense data."""
        return int(math.prod(self.shape) * np.dtype(self.np_dtype).itemsize)


@dataclass(frozen=True)
class Variable:
    """An input or output of a compiled file; scales and zero point where it is quantized."""

    name: str
    type: TensorType
    scales: tuple[float, ...] = ()
    zero_point: int = 0
