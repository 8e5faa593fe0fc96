"""Operands and results of integer operators."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from openbpu.arch import numerics
from openbpu.arch.arrays import Int64
from openbpu.arch.dtypes import DType
from openbpu.quantization.torch.errors import ExportError, never_observed
from openbpu.quantization.torch.fake_quantize import FakeQuantize
from openbpu.quantization.torch.qtensor import QTensor
from openbpu.quantization.torch.scope import here

Clamp = tuple[float, float]
OPEN: Clamp = (-np.inf, np.inf)


@dataclass(frozen=True, slots=True)
class Grid:
    """A per-tensor scale and an integer type; zero points are 0."""

    s: float
    dtype: DType

    @property
    def reach(self) -> int:
        """Largest |code|."""
        return -self.dtype.qmin

    def bounds(self, clamp: Clamp = OPEN) -> tuple[int, int]:
        """Codes that the real bounds of a clamp allow."""
        return numerics.code_bounds(clamp, self.s, 0, self.dtype)


@dataclass(frozen=True, slots=True)
class Codes:
    """The integers of an operand and their grid."""

    codes: Int64
    grid: Grid


class Deferred(Protocol):
    """A result whose rounding is still to come: by the operator itself or by one fused behind it."""

    def rounded(self, out: Grid, clamp: Clamp) -> Int64:
        """The codes on the grid `out`, clamped to real bounds."""

    def real(self) -> npt.NDArray[np.float32]:
        """The values as the CPU sees them where nothing rounds."""


def grid_of(quantizer: FakeQuantize) -> Grid:
    """The grid of a per-tensor quantizer; raises ExportError when nothing was ever observed for it."""
    if quantizer.initial:
        raise ExportError(never_observed("convert", [here()]))
    return Grid(float(quantizer.scale.detach().reshape(-1)[0]), quantizer.dtype.storage)


def codes_of(x: Any) -> Codes | None:
    """Integers of a per-tensor QTensor; None for anything else."""
    if not isinstance(x, QTensor) or x.q_scale() is None or x.q_per_channel_axis() >= 0:
        return None
    grid = Grid(float(x.scale.reshape(-1)[0]), x.dtype.storage)
    if x.codes is not None:
        return Codes(x.codes, grid)
    codes = np.rint(x.plain.detach().cpu().numpy().astype(np.float64) / grid.s).astype(np.int64)
    return Codes(codes, grid)


def tensor_of(codes: Int64, quantizer: FakeQuantize) -> QTensor:
    """The QTensor of codes on a quantizer's grid; the float is code · scale in float32."""
    reals = numerics.dequantize(codes, np.float32(float(quantizer.scale.detach().reshape(-1)[0])))
    plain = torch.from_numpy(np.asarray(reals))
    result = QTensor(plain, quantizer.scale.detach(), quantizer.zero_point, quantizer.dtype)
    result.codes = codes
    return result


def raw_tensor(deferred: Deferred) -> QTensor:
    """The QTensor of a result that is not rounded here."""
    result = QTensor(torch.from_numpy(np.ascontiguousarray(deferred.real())), None)
    result.pending = deferred
    return result


@lru_cache(maxsize=4096)
def fixed_sum(
    factors: tuple[float, ...], bounds: tuple[float, ...], offset: float = 0.0, *, every: bool = False
) -> numerics.FixedPoint:
    """`numerics.fixed_point_sum` of numbers, each set of them once: a converted model's never change."""
    return numerics.fixed_point_sum(factors, bounds, offset, every=every)
