"""Ranges found by looking at data: the largest magnitude, or a histogram and a criterion."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from openbpu.arch.errors import must
from openbpu.quantization.ranges import (
    BINS,
    Histogram,
    entropy_range,
    finite_peak,
    mse_range,
    percentile_range,
)
from openbpu.quantization.torch.lowlevel.functions import fake_tensor_quant

Floats = npt.NDArray[np.float64]
METHODS = ("percentile", "mse", "entropy")


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
        return self._amax


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
        self, method: str = "percentile", *, stride: int = 1, start_bin: int = 128, percentile: float = 99.99
    ) -> Any:
        """Return the range as a tensor, or None when nothing was collected.

        method: "percentile" of the magnitudes · "mse", the least squared error of fake quantization ·
        "entropy", the least Kullback-Leibler divergence. stride, start_bin: which bins are tried.
        """
        if method not in METHODS:
            raise TypeError(must("HistogramCalibrator", "method", " or ".join(METHODS), repr(method)))
        if method == "percentile" and not 0 <= percentile <= 100:
            raise ValueError(must("HistogramCalibrator", "percentile", "within 0..100", percentile))
        if not self._seen.total:
            return None
        return torch.tensor(self._range(method, stride, start_bin, percentile), dtype=torch.float32)

    def _range(self, method: str, stride: int, start_bin: int, percentile: float) -> float:
        counts, peak = self._seen.counts, self._seen.peak
        if method == "percentile":
            return percentile_range(counts, peak, percentile)
        if method == "entropy":
            levels = 2 ** (self._num_bits - 1 + int(self._unsigned))
            return entropy_range(counts, peak, levels, start=start_bin, stride=stride)
        bins = len(counts)
        tried = np.arange(min(start_bin, bins), bins + 1, stride) * (peak / bins)
        return mse_range(counts, peak, tried, self._rounded)

    def _rounded(self, values: Floats, limits: Floats) -> Floats:
        of, edges = torch.from_numpy(values).float(), torch.from_numpy(limits).float()
        found: Floats = fake_tensor_quant(of, edges, self._num_bits, self._unsigned).double().numpy()
        return found


def _values(x: Any, where: str) -> npt.NDArray[Any]:
    """Return a batch of any float dtype as an array; raises QuantizationError for NaN and infinity."""
    values: npt.NDArray[Any] = x.detach().float().cpu().numpy()
    finite_peak(values, where, "look at the data and at masks of -inf (a large negative number does as well)")
    return values
