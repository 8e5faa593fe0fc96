"""Convolutions, linear layers and matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from openbpu.arch import numerics
from openbpu.arch.arrays import Float64, Int64
from openbpu.arch.march import get_march as load_march
from openbpu.arch.shapes import along
from openbpu.quantization.torch.integer.values import Clamp, Codes, Grid, codes_of, fixed_sum
from openbpu.quantization.torch.march import get_march
from openbpu.quantization.torch.qtensor import QTensor

_INT32 = (-(2**31), 2**31 - 1)
_FLOAT32_EXACT = 2**24


@dataclass(frozen=True, slots=True)
class Product:
    """Exact sums of products; per channel of `axis`: unit, real bias, bound of the sums."""

    sums: Int64
    unit: Float64
    bias: Float64
    reach: Int64
    axis: int

    def along(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values per channel in a shape that broadcasts against the sums."""
        return np.reshape(values, along(self.axis, self.sums.ndim))

    def rounded(self, out: Grid, clamp: Clamp, residual: Codes | None = None) -> Int64:
        """The formula of program.Conv: saturated sums and bias, one rounding of all."""
        added = None if residual is None else (residual.grid.s, float(residual.grid.reach))
        zero = np.zeros_like(self.reach)
        total, fixed = numerics.product_factors(self.unit, self.bias, self.reach, zero, out.s, added)
        acc = np.clip(self.sums + self.along(total), *_INT32)
        value = acc * self.along(fixed.multipliers[0]) + self.along(fixed.offset)
        if residual is not None:
            value = value + residual.codes * self.along(
                np.broadcast_to(fixed.multipliers[1], self.reach.shape)
            )
        return numerics.requantize(value, self.along(fixed.shift), 0, *out.bounds(clamp))

    def real(self) -> npt.NDArray[np.float32]:
        """The int32 accumulator times its unit, and what is left of the bias: the high-precision output."""
        whole, offset = numerics.raw_bias(self.unit, self.bias, np.zeros_like(self.reach))
        acc = np.clip(self.sums + self.along(whole), *_INT32)
        return numerics.dequantize(acc, self.along(self.unit), 0, self.along(offset))


@dataclass(frozen=True, slots=True)
class WithResidual:
    """A product and an operand that is added before the rounding."""

    product: Product
    residual: Codes

    def rounded(self, out: Grid, clamp: Clamp) -> Int64:
        """One rounding for both."""
        return self.product.rounded(out, clamp, self.residual)

    def real(self) -> npt.NDArray[np.float32]:
        """In float, as the CPU adds."""
        scale = np.float32(self.residual.grid.s)
        return self.product.real() + numerics.dequantize(self.residual.codes, scale)


def weighted_product(module: Any, x: QTensor) -> Product | None:
    """The sums of a module with quantized weights; None where the march has no such product."""
    operand, quantizer = codes_of(x), getattr(module, "weight_fake_quant", None)
    if operand is None or quantizer is None:
        return None
    storage = quantizer.dtype.storage
    if (operand.grid.dtype, storage) not in load_march(str(get_march())).conv_pairs:
        return None
    baked = _baked(module, quantizer)
    reach = baked.reach * operand.grid.reach
    sums = _sums(module, operand.codes, baked, int(reach.max(initial=0)))
    axis = sums.ndim - 1 if isinstance(module, nn.Linear) else 1
    return Product(sums, operand.grid.s * baked.scales, baked.bias, reach, axis)


@dataclass(frozen=True, slots=True)
class Baked:
    """A weight in integers, with what every call needs of it; per channel Σ|w|, scale and real bias."""

    codes: Int64
    reach: Int64
    scales: Float64
    bias: Float64
    tensors: dict[torch.dtype, torch.Tensor]

    def tensor(self, kind: torch.dtype) -> torch.Tensor:
        """The codes as floats."""
        if kind not in self.tensors:
            self.tensors[kind] = torch.from_numpy(self.codes).to(kind)
        return self.tensors[kind]


def _baked(module: Any, quantizer: Any) -> Baked:
    """The integers of a weight: made once, where the weight is the module's own and has not changed."""
    own = module.__dict__.get("_parameters", {}).get("weight")
    if own is None:
        return _made(module, quantizer)
    version = own._version  # noqa: SLF001 - how torch counts what is written into a tensor
    kept = module.__dict__.get("baked_weight")
    if kept is None or kept[0] != version or kept[1] is not own or kept[2] is not quantizer.scale:
        kept = version, own, quantizer.scale, _made(module, quantizer)
        module.__dict__["baked_weight"] = kept
    found: Baked = kept[3]
    return found


def _made(module: Any, quantizer: Any) -> Baked:
    weight, bias = module.folded()
    scale = quantizer.scale.detach().cpu().numpy()
    data, shape = weight.detach().cpu().numpy(), along(module.channel_axis, weight.ndim)
    codes = numerics.quantize(data, scale.reshape(shape), 0, quantizer.dtype.storage).astype(np.int64)
    reach = _reach(module, codes)
    real = np.zeros(reach.size) if bias is None else bias.detach().cpu().numpy().astype(np.float64)
    scales = np.tile(scale.astype(np.float64), reach.size // scale.size)
    return Baked(codes, reach, scales, real, {})


def _reach(module: Any, codes: Int64) -> Int64:
    """Σ|w| per output channel."""
    size = np.abs(codes)
    if module.channel_axis == 0:
        return np.asarray(size.reshape(size.shape[0], -1).sum(axis=1), dtype=np.int64)
    groups = module.groups
    rows = size.reshape(groups, size.shape[0] // groups, size.shape[1], -1)
    return np.asarray(rows.sum(axis=(1, 3)).reshape(-1), dtype=np.int64)


def _sums(module: Any, x: Int64, baked: Baked, reach: int) -> Int64:
    """Exact Σ x·w: float32 holds every partial sum below 2**24, float64 those below 2**53."""
    kind = torch.float32 if reach < _FLOAT32_EXACT else torch.float64
    with torch.no_grad():
        y = module.apply_weight(torch.from_numpy(x).to(kind), baked.tensor(kind), None)
    return np.asarray(np.rint(y.numpy().astype(np.float64)), dtype=np.int64)


def matrix_product(a: Codes, b: Codes) -> MatrixProduct | None:
    """A · B of two computed operands; None where the march has no such product."""
    if (a.grid.dtype, b.grid.dtype) not in load_march(str(get_march())).matmul_pairs:
        return None
    reach = a.codes.shape[-1] * a.grid.reach * b.grid.reach
    sums = np.matmul(a.codes.astype(np.float64), b.codes.astype(np.float64))
    return MatrixProduct(np.clip(np.asarray(np.rint(sums), np.int64), *_INT32), a.grid, b.grid, reach)


@dataclass(frozen=True, slots=True)
class MatrixProduct:
    """Saturated sums of a product of two computed operands."""

    acc: Int64
    a: Grid
    b: Grid
    reach: int

    def rounded(self, out: Grid, clamp: Clamp) -> Int64:
        """Y = rhe(acc·mult / 2^shift)."""
        bound = float(min(self.reach, 2**31))
        fixed = fixed_sum((self.a.s * self.b.s / out.s,), (bound,))
        made = numerics.requantize(self.acc * fixed.multipliers[0], fixed.shift, 0, *out.bounds(clamp))
        return made.reshape(self.acc.shape)  # a product of vectors has no axis

    def real(self) -> npt.NDArray[np.float32]:
        """The int32 accumulator times its unit."""
        return self.acc.astype(np.float32) * np.float32(self.a.s * self.b.s)


def batch_norm_product(module: Any, x: Codes) -> Product:
    """A BatchNorm that stands alone: a depthwise 1×1 convolution with weights 1 and a gain per channel."""
    mean, var = (_real(t) for t in (module.running_mean, module.running_var))
    scale = np.ones(mean.size) if module.weight is None else _real(module.weight)
    beta = np.zeros(mean.size) if module.bias is None else _real(module.bias)
    gain = scale / np.sqrt(var + float(np.float32(module.eps)))
    bias = beta - mean * gain
    return affine_product(x, gain, bias)


def _real(t: torch.Tensor) -> Float64:
    return np.asarray(t.detach().cpu().numpy(), dtype=np.float64)


def affine_product(x: Codes, gain: Float64, bias: Float64) -> Product:
    """x·gain + bias per channel (axis 1), as a depthwise 1×1 convolution with weights 1."""
    reach = np.full(gain.size, x.grid.reach, np.int64)
    return Product(x.codes, gain * (x.grid.s * np.ones(gain.size)), bias, reach, 1)
