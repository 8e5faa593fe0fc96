"""Quantized tensors with a scale and a zero point, the plain affine kind: q = round(x / scale) + zero point.

torch has had them since 1.3 and has announced their removal; where it still has them, they are torch's own
(its warning is answered here: the same functions stay available). Where it has not, `AffineTensor` takes
their place: the same integers (exact ties aside, which torch's vector units settle) and printed form.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch

from openbpu.arch.errors import must
from openbpu.arch.shapes import along


@dataclass(frozen=True)
class AffineDtype:
    """A quantized dtype for a torch without them: the integer range and what `int_repr` returns."""

    name: str
    qmin: int
    qmax: int
    storage: Any

    def __repr__(self) -> str:
        return f"torch.{self.name}"


_OWN = {
    "quint8": AffineDtype("quint8", 0, 255, torch.uint8),
    "qint8": AffineDtype("qint8", -128, 127, torch.int8),
    "qint32": AffineDtype("qint32", -(2**31), 2**31 - 1, torch.int32),
}

quint8: Any = getattr(torch, "quint8", _OWN["quint8"])
qint8: Any = getattr(torch, "qint8", _OWN["qint8"])
qint32: Any = getattr(torch, "qint32", _OWN["qint32"])


def quantize_per_tensor(input: Any, scale: float, zero_point: int, dtype: Any) -> Any:  # noqa: A002 - torch's
    """Quantize a float tensor with one scale and zero point; `dtype` is quint8, qint8 or qint32."""
    _own_dtype(dtype)
    if hasattr(torch, "quantize_per_tensor"):
        with _no_farewell():
            return torch.quantize_per_tensor(input, scale, zero_point, dtype)
    return own_per_tensor(input, scale, zero_point, dtype)


def quantize_per_channel(input: Any, scales: Any, zero_points: Any, axis: int, dtype: Any) -> Any:  # noqa: A002
    """Quantize a float tensor with a scale and a zero point for each entry of `axis`."""
    _own_dtype(dtype)
    if hasattr(torch, "quantize_per_channel"):
        with _no_farewell():
            return torch.quantize_per_channel(input, scales, zero_points, axis, dtype)
    return own_per_channel(input, scales, zero_points, axis, dtype)


class AffineTensor:
    """The stand-in for torch's quantized tensor: holds integers, prints and dequantizes as torch's does."""

    def __init__(
        self, integers: Any, scale: Any, zero_point: Any, dtype: AffineDtype, axis: int | None
    ) -> None:
        self._integers, self._scale, self._zero_point = integers, scale, zero_point
        self.dtype, self._axis = dtype, axis
        self.shape = integers.shape

    def int_repr(self) -> Any:
        """Return the stored integers, as uint8, int8 or int32."""
        return self._integers.clone()

    def dequantize(self) -> Any:
        """Return (q − zero point) · scale as float32."""
        return ((self._integers.long() - self._spread(self._zero_point)) * self._spread(self._scale)).float()

    def q_scale(self) -> float:
        """Return the scale of a per-tensor quantized tensor."""
        return float(self._scale)

    def q_zero_point(self) -> int:
        """Return the zero point of a per-tensor quantized tensor."""
        return int(self._zero_point)

    def q_per_channel_scales(self) -> Any:
        """Return the scales along the axis, float64."""
        return self._scale

    def q_per_channel_zero_points(self) -> Any:
        """Return the zero points along the axis, int64."""
        return self._zero_point

    def q_per_channel_axis(self) -> int:
        """Return the axis; raises RuntimeError when there is none."""
        if self._axis is None:
            raise RuntimeError("q_per_channel_axis: the tensor must be per-channel quantized, not per-tensor")
        return self._axis

    def size(self) -> Any:
        """Return the shape."""
        return self.shape

    def _spread(self, values: Any) -> Any:
        """Shape per-channel values so that they broadcast along the axis."""
        if self._axis is None:
            return values
        return values.reshape([-1 if a == self._axis else 1 for a in range(self._integers.dim())])

    def __repr__(self) -> str:
        body = repr(self.dequantize())[:-1]
        if self._axis is None:
            kind, steps = "per_tensor_affine", f"scale={self.q_scale()}, zero_point={self.q_zero_point()}"
        else:
            kind = "per_channel_affine"
            steps = f"scale={self._scale}, zero_point={self._zero_point}, axis={self._axis}"
        parts = (
            f"size={tuple(self.shape)}",
            f"dtype={self.dtype}",
            f"quantization_scheme=torch.{kind}",
            steps,
        )
        return f"{body}, {', '.join(parts)})"


def own_per_tensor(x: Any, scale: float, zero_point: int, dtype: Any) -> AffineTensor:
    """Quantize without torch's quantized tensors; the same integers."""
    own = _own_dtype(dtype)
    if not own.qmin <= zero_point <= own.qmax:
        allowed = f"within {own.qmin}..{own.qmax} of {own.name}"
        raise RuntimeError(must("quantize_per_tensor", "zero_point", allowed, zero_point))
    step, zero = torch.tensor(float(scale), dtype=torch.float64), torch.tensor(int(zero_point))
    return AffineTensor(_integers(x, step, zero, own), step, zero, own, None)


def own_per_channel(x: Any, scales: Any, zero_points: Any, axis: int, dtype: Any) -> AffineTensor:
    """Quantize along an axis without torch's quantized tensors; the same integers."""
    own = _own_dtype(dtype)
    if scales.numel() != x.shape[axis] or zero_points.numel() != x.shape[axis]:
        given = f"{scales.numel()} scales and {zero_points.numel()} zero points"
        raise RuntimeError(must("quantize_per_channel", "scales and zero points", x.shape[axis], given))
    axis %= x.dim()
    shape = along(axis, x.dim())
    steps, zeros = scales.double(), zero_points.long()
    integers = _integers(x, steps.reshape(shape), zeros.reshape(shape), own)
    return AffineTensor(integers, steps, zeros, own, axis)


def _integers(x: Any, scale: Any, zero_point: Any, own: AffineDtype) -> Any:
    """Return round_half_even(x / scale + zero point), clamped; by the float32 reciprocal, as torch does."""
    if x.dtype != torch.float32:
        raise RuntimeError(must("quantize", "the input's dtype", "torch.float32", x.dtype))
    steps = torch.round(x * (1.0 / scale.float()) + zero_point)
    return torch.clamp(steps.double(), own.qmin, own.qmax).to(own.storage)


def _own_dtype(dtype: Any) -> AffineDtype:
    name = str(dtype).removeprefix("torch.")
    if name not in _OWN:
        raise RuntimeError(must("quantize", "dtype", "torch.quint8, torch.qint8 or torch.qint32", dtype))
    return _OWN[name]


class _no_farewell(warnings.catch_warnings):  # noqa: N801 - used as a statement
    """Silence torch's announcement that quantized tensors will go: `AffineTensor` answers it."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.filterwarnings("ignore", message=".*quantized tensor creation functions.*")
        return entered
