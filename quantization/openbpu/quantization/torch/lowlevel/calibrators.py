"""Ranges found by looking at data: the largest magnitude, or a histogram and a criterion."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from openbpu.arch.errors import must
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
        """Look at a batch; raises ValueError when later batches have another shape of ranges."""
        found = reduce_amax(x.detach(), self._axis)
        if self._amax is not None and self._amax.shape != found.shape:
            shapes = tuple(self._amax.shape), tuple(found.shape)
            raise ValueError(
                must("MaxCalibrator", "the shape of the ranges", *shapes, "use one axis for all")
            )
        self._amax = found.clone() if self._amax is None else torch.maximum(self._amax, found)
        if self._track_amax:
            self._amaxs.append(found.cpu().numpy())

    def reset(self) -> None:
        """Forget what was seen."""
        self._amax = None
        self._amaxs = []

    def compute_amax(self) -> Any:
        """Return the range, or None when nothing was collected."""
        return self._amax


class HistogramCalibrator:
    """A histogram of magnitudes that grows with the data; the range is read off it by a criterion.

    num_bins: of the first batch; a later, larger batch adds bins of the same width. skip_zeros: exact zeros
    (of a ReLU, say) do not count. Per tensor only.
    """

    def __init__(
        self,
        num_bits: int = 8,
        axis: int | tuple[int, ...] | None = None,
        unsigned: bool = False,
        num_bins: int = 2048,
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
        self._counts: Floats = np.zeros(0)
        self._width = 0.0

    def collect(self, x: Any) -> None:
        """Count a batch's magnitudes."""
        magnitudes = x.detach().abs().float().cpu().numpy().ravel().astype(np.float64)
        if self._skip_zeros:
            magnitudes = magnitudes[magnitudes > 0]
        largest = float(magnitudes.max(initial=0.0))
        if not self._width:
            if not largest:
                return
            self._width = largest / self._num_bins
        bins = np.minimum(magnitudes / self._width, np.iinfo(np.int32).max).astype(np.int64)
        bins -= (
            (bins > 0) & (bins * self._width == magnitudes) & (magnitudes == largest)
        )  # the edge is closed
        counts = np.bincount(bins, minlength=max(self._num_bins, len(self._counts))).astype(np.float64)
        counts[: len(self._counts)] += self._counts
        self._counts = counts

    def compute_amax(
        self, method: str = "percentile", *, stride: int = 1, start_bin: int = 128, percentile: float = 99.99
    ) -> Any:
        """Return the range as a tensor, or None when nothing was collected.

        method: "percentile" of the magnitudes · "mse", the least squared error of fake quantization ·
        "entropy", the least Kullback-Leibler divergence. stride, start_bin: which bins are tried.
        """
        if method not in METHODS:
            raise TypeError(must("HistogramCalibrator", "method", " or ".join(METHODS), repr(method)))
        if not self._counts.size:
            return None
        if method == "percentile":
            return _tensor(percentile_amax(self._counts, self._width, percentile))
        tried = range(min(start_bin, len(self._counts)), len(self._counts) + 1, stride)
        if method == "mse":
            return _tensor(
                mse_amax(self._counts, self._width, tried, self._num_bits, unsigned=self._unsigned)
            )
        return _tensor(
            entropy_amax(self._counts, self._width, tried, self._num_bits, unsigned=self._unsigned)
        )


def percentile_amax(counts: Floats, width: float, percentile: float) -> float:
    """Return the edge of the first bin at which `percentile` per cent of the counts are reached."""
    if not 0 <= percentile <= 100:
        raise ValueError(must("HistogramCalibrator", "percentile", "within 0..100", percentile))
    reached = np.cumsum(counts) / counts.sum()
    return float((np.searchsorted(reached, percentile / 100.0) + 1) * width)


def mse_amax(counts: Floats, width: float, tried: range, num_bits: int, *, unsigned: bool) -> float:
    """Return the range whose fake quantization of the bins' centres has the least weighted squared error."""
    centres = torch.from_numpy((np.arange(len(counts)) + 0.5) * width).float()
    weights = torch.from_numpy(counts).float()

    def error(last: int) -> float:
        edge = torch.tensor(last * width, dtype=torch.float32)
        away = fake_tensor_quant(centres, edge, num_bits, unsigned) - centres
        return float((away * away * weights).sum())

    return min(tried, key=error) * width


def entropy_amax(counts: Floats, width: float, tried: range, num_bits: int, *, unsigned: bool) -> float:
    """Return the range whose quantized histogram diverges least (Kullback-Leibler) from the clipped one."""
    levels = 2 ** (num_bits - 1 + int(unsigned))

    def divergence(last: int) -> float:
        clipped = counts[:last].copy()
        clipped[-1] += counts[last:].sum()
        return _divergence(clipped, _coarse(counts[:last], levels))

    return min(tried, key=divergence) * width


def _coarse(counts: Floats, levels: int) -> Floats:
    """Share out the counts of each quantization level among its bins that are not empty."""
    level = np.minimum(np.arange(len(counts)) * levels // len(counts), levels - 1)
    filled = counts > 0
    total = np.bincount(level, weights=counts, minlength=levels)
    bins = np.bincount(level, weights=filled, minlength=levels)
    shared = np.divide(total, bins, out=np.zeros_like(total), where=bins > 0)
    return np.where(filled, shared[level], 0.0)


def _divergence(p: Floats, q: Floats) -> float:
    """KL(p ‖ q) of two histograms; infinite where q is empty and p is not."""
    if not p.sum() or not q.sum():
        return float("inf")
    p, q = p / p.sum(), q / q.sum()
    seen = p > 0
    if np.any(q[seen] == 0):
        return float("inf")
    return float(np.sum(p[seen] * np.log(p[seen] / q[seen])))


def _tensor(amax: float) -> Any:
    return torch.tensor(amax, dtype=torch.float32)
