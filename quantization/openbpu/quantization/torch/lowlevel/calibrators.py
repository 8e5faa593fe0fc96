"""Ranges found by looking at data: the largest magnitude, or a histogram and a criterion."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from openbpu.arch.arrays import Float64
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import must
from openbpu.quantization.ranges import (
    BINS,
    Histogram,
    Rounded,
    entropy_range,
    finite_peak,
    fractions,
    grid,
    mse_range,
    percentile_range,
    usable_range,
)
from openbpu.quantization.torch import usable
from openbpu.quantization.torch.lowlevel.functions import fake_tensor_quant

METHODS = ("percentile", "mse", "entropy")
_START = 128
_CHIP = {8: DType.INT8, 16: DType.INT16}


def reduce_amax(x: Any, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = True) -> Any:
    """Return max |x|: one number, or one per entry of the axes that are *kept*, with rank unless told."""
    if axis is None:
        return x.abs().max()
    for a in (axis,) if isinstance(axis, int) else axis:
        if not -x.dim() <= a < x.dim():
            fix = "the axis of the descriptor must exist in every tensor"
            raise ValueError(must("reduce_amax", "axis", f"within {-x.dim()}..{x.dim() - 1}", a, fix))
    kept = {a % x.dim() for a in ((axis,) if isinstance(axis, int) else axis)}
    away = [a for a in range(x.dim()) if a not in kept]
    return x.abs().amax(dim=away, keepdim=keepdims) if away else x.abs()


class MaxCalibrator:
    """The largest magnitude seen in all batches, per tensor or along the kept axes."""

    def __init__(
        self,
        num_bits: int = 8,
        axis: int | tuple[int, ...] | None = None,
        unsigned: bool = False,
        track_amax: bool = False,
    ) -> None:
        self._num_bits, self._axis, self._unsigned = num_bits, axis, unsigned
        self._track_amax = track_amax
        self._amaxs: list[npt.NDArray[Any]] = []
        self._amax: Any = None

    @property
    def amaxs(self) -> list[npt.NDArray[Any]]:
        """The maximum of every batch, when `track_amax`."""
        return self._amaxs

    def collect(self, x: Any) -> None:
        """Look at a batch.

        Raises QuantizationError for NaN and infinity, ValueError when the shape of the ranges changes.
        """
        if not x.numel():
            return
        _values(x, "MaxCalibrator")
        found = reduce_amax(x.detach(), self._axis)
        if self._amax is not None and self._amax.shape != found.shape:
            shapes = tuple(self._amax.shape), tuple(found.shape)
            raise ValueError(
                must("MaxCalibrator", "the shape of the ranges", *shapes, "use one axis for all")
            )
        self._amax = found.clone() if self._amax is None else torch.maximum(self._amax, found)
        if self._track_amax:
            self._amaxs.append(found.float().cpu().numpy())

    def reset(self) -> None:
        """Forget what was seen."""
        self._amax = None
        self._amaxs = []

    def compute_amax(self) -> Any:
        """Return the range, or None when nothing was collected."""
        if self._amax is None:
            return None
        return usable.usable_range(self._amax)


class HistogramCalibrator:
    """A histogram of the magnitudes of all batches; the range is read off it by a criterion.

    num_bins: over 0 … the largest magnitude of all batches, whichever came first. skip_zeros: exact zeros (of
    a ReLU, say) do not count. Per tensor only.
    """

    def __init__(
        self,
        num_bits: int = 8,
        axis: int | tuple[int, ...] | None = None,
        unsigned: bool = False,
        num_bins: int = BINS,
        skip_zeros: bool = False,
    ) -> None:
        if axis is not None:
            fix = "calibrate weights with calib_method='max'"
            raise NotImplementedError(must("HistogramCalibrator", "axis", "None", axis, fix))
        self._num_bits, self._unsigned = num_bits, unsigned
        self._num_bins, self._skip_zeros = num_bins, skip_zeros
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self._seen = Histogram(self._num_bins)

    def collect(self, x: Any) -> None:
        """Count a batch's magnitudes; raises QuantizationError for NaN and infinity."""
        values = _values(x, "HistogramCalibrator")
        self._seen.add(values[values != 0] if self._skip_zeros else values)

    def compute_amax(
        self,
        method: str = "percentile",
        *,
        stride: int | None = None,
        start_bin: int | None = None,
        percentile: float = 99.99,
    ) -> Any:
        """Return the range as a tensor, or None when nothing was collected.

        method: "percentile" of the magnitudes · "mse", the least squared error of fake quantization ·
        "entropy", the least Kullback-Leibler divergence. As every door has them; of 8 and 16 bits with a sign
        the error is that of the chip's grid. stride, start_bin: which bins are tried instead of those that
        every door tries: of "entropy" all from the 128th on, of "mse" a hundred fractions of the largest
        magnitude.
        """
        if method not in METHODS:
            raise TypeError(must("HistogramCalibrator", "method", " or ".join(METHODS), repr(method)))
        if method == "percentile" and not 0 <= percentile <= 100:
            raise ValueError(must("HistogramCalibrator", "percentile", "within 0..100", percentile))
        if not self._seen.total:
            return None
        found = self._range(method, stride, start_bin, percentile)
        return torch.tensor(float(usable_range(found)), dtype=torch.float32)

    def _range(self, method: str, stride: int | None, start_bin: int | None, percentile: float) -> float:
        counts, peak = self._seen.counts, self._seen.peak
        if method == "percentile":
            return percentile_range(counts, peak, percentile)
        if method == "entropy":
            levels = 2 ** (self._num_bits - 1 + int(self._unsigned))
            start = _START if start_bin is None else start_bin
            return entropy_range(counts, peak, levels, start=start, stride=stride or 1)
        return mse_range(counts, peak, self._tried(stride, start_bin), self._held())

    def _tried(self, stride: int | None, start_bin: int | None) -> Float64:
        """Return the ranges among which "mse" chooses."""
        bins, peak = self._num_bins, self._seen.peak
        if stride is None and start_bin is None:
            return fractions(peak)
        start = _START if start_bin is None else start_bin
        return np.asarray(np.arange(min(start, bins), bins + 1, stride or 1) * (peak / bins), np.float64)

    def _held(self) -> Rounded:
        """Return how a range holds values: as on the chip if that has the type, else as fake quantization."""
        chip = None if self._unsigned else _CHIP.get(self._num_bits)
        return self._rounded if chip is None else grid(chip)

    def _rounded(self, values: Float64, limits: Float64) -> Float64:
        of, edges = torch.from_numpy(values).float(), torch.from_numpy(limits).float()
        found: Float64 = fake_tensor_quant(of, edges, self._num_bits, self._unsigned).double().numpy()
        return found


def _values(x: Any, where: str) -> npt.NDArray[Any]:
    """Return a batch of any float dtype as an array; raises QuantizationError for NaN and infinity."""
    values: npt.NDArray[Any] = x.detach().float().cpu().numpy()
    finite_peak(values, where, "look at the data and at masks of -inf (a large negative number does as well)")
    return values
