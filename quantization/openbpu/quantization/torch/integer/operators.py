"""From a torch function's name and arguments to its integer arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own custom

from openbpu.arch.arrays import Int64
from openbpu.arch.dtypes import DType
from openbpu.quantization.torch.integer.choices import nothing, where
from openbpu.quantization.torch.integer.elementwise import (
    Computed,
    Sampling,
    accumulated,
    added,
    averaged,
    divided,
    joined,
    linear_table,
    multiplied,
    picked,
    reduced,
    resized,
    sampled,
    softmaxed,
)
from openbpu.quantization.torch.integer.listed import left_to_cpu, longest
from openbpu.quantization.torch.integer.numbers import number_beside
from openbpu.quantization.torch.integer.products import Product, WithResidual, affine_product, matrix_product
from openbpu.quantization.torch.integer.tables import evaluate, looked_up
from openbpu.quantization.torch.integer.values import Clamp, Codes, Deferred, Grid, codes_of
from openbpu.quantization.torch.qtensor import QTensor

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Real = Callable[[], npt.NDArray[np.float32]]
Code = Callable[[Grid, Clamp], Any]


@dataclass(frozen=True, slots=True)
class Clamped:
    """A result whose ReLU acts in front of the rounding still to come."""

    inner: Deferred
    clamp: Clamp

    def rounded(self, out: Grid, clamp: Clamp) -> Int64:
        """The inner clamp acts first; the outer one is applied to its bounds."""
        low, high = (min(max(bound, clamp[0]), clamp[1]) for bound in self.clamp)
        return self.inner.rounded(out, (low, high))

    def real(self) -> npt.NDArray[np.float32]:
        """Clamped in float."""
        return np.clip(self.inner.real(), np.float32(self.clamp[0]), np.float32(self.clamp[1]))


def deferred(name: str, args: Args, kwargs: Kwargs, real: Real) -> Deferred:
    """The result of an operator; one that has no integer form is computed by `real` on the CPU."""
    pending = [a.pending for a in args[:2] if isinstance(a, QTensor) and a.pending is not None]
    if pending:
        return _behind(name, pending[0], args, real)
    if left_to_cpu(name):
        return Computed(nothing, real)
    return Computed(_code(name, args, kwargs), real)


def _behind(name: str, pending: Deferred, args: Args, real: Real) -> Deferred:
    """An operator behind a result that is not rounded yet: a ReLU or the addition of a quantized operand."""
    if name == "relu":
        return Clamped(pending, (0.0, np.inf))
    if name == "relu6":
        return Clamped(pending, (0.0, 6.0))
    others = [codes for a in args[:2] if (codes := codes_of(a)) is not None]
    if name not in {"add", "add_relu"} or len(others) != 1 or not isinstance(pending, Product):
        return Computed(nothing, real)
    if others[0].codes.shape == pending.sums.shape:
        result = WithResidual(pending, others[0])
        return Clamped(result, (0.0, np.inf)) if name == "add_relu" else result
    return Computed(nothing, real)


def _code(name: str, args: Args, kwargs: Kwargs) -> Code:
    special = _SPECIAL.get(name)
    if special is not None:
        found = special(args, kwargs)
        if found is not None:
            return found
    beside = number_beside(name, args, kwargs)
    if beside is not None:
        return beside
    pair = _PAIRS.get(name)
    if pair is not None and len(args) > 1 and not set(kwargs) - {"alpha"}:
        a, b = codes_of(args[0]), codes_of(args[1])
        # int8 x·x is one table; int16 x·x is exact as a product of two.
        if name == "div" and (b is None or b.grid.dtype is not DType.INT8):
            b = None
        if a is not None and b is not None and (args[0] is not args[1] or a.grid.dtype is DType.INT16):
            return nothing if kwargs.get("alpha", 1) != 1 else partial(_run_pair, pair, a, b)
        if name in _AFFINE and kwargs.get("alpha", 1) == 1:
            found = _per_channel(name, args)
            if found is not None:
                return found
    return partial(_unary, name, args, kwargs)


def _per_channel(name: str, args: Args) -> Code | None:
    """A QTensor of three to five axes and a constant per channel: a depthwise convolution of ones."""
    for index in (0, 1):
        x, other = codes_of(args[index]), args[1 - index]
        if x is None or isinstance(other, QTensor) or not isinstance(other, torch.Tensor):
            continue
        shape = (1,) * (x.codes.ndim - other.ndim) + tuple(other.shape)
        if x.codes.ndim not in {3, 4, 5} or len(shape) != x.codes.ndim or other.numel() < 2:
            return None
        if not shape[1] == other.numel() == x.codes.shape[1] or not other.is_floating_point():
            return None
        value = other.detach().numpy().reshape(-1).astype(np.float64)
        ones, zeros = np.ones(value.size), np.zeros(value.size)
        gain, bias = (value, zeros) if name == "mul" else (ones, value)
        if name == "div":
            if index == 1 or not value.all():
                return None
            gain, bias = 1 / value, zeros
        if name == "sub":
            gain, bias = (ones, -value) if index == 0 else (-ones, value)
        return affine_product(x, gain, bias).rounded
    return None


def _run_pair(pair: Any, a: Codes, b: Codes, out: Grid, clamp: Clamp) -> Int64:
    return pair(a, b, out, clamp)  # type: ignore[no-any-return]


def _unary(name: str, args: Args, kwargs: Kwargs, out: Grid, clamp: Clamp) -> Any:
    """A function of one quantized tensor and constants; the tensor may stand in several places."""
    tensors = [a for a in args if isinstance(a, QTensor)]
    if not tensors or any(t is not tensors[0] for t in tensors):
        return None
    x = codes_of(tensors[0])
    if x is None:
        return None
    holes = tuple(isinstance(a, QTensor) for a in args)
    if name == "lut":
        function: Any = args[1]
        key: Any = ("lut", args[2])
    else:
        key = _key(name, args, kwargs, clamp)

        def function(column: Any) -> Any:
            return evaluate(name, tuple(column if h else a for h, a in zip(holes, args, strict=True)), kwargs)

    y = looked_up(x, function, out, key)
    low, high = out.bounds(clamp)
    return np.clip(y, low, high)


def _key(name: str, args: Args, kwargs: Kwargs, clamp: Clamp) -> Any:
    plain = ["x" if isinstance(a, QTensor) else a for a in args]
    if any(isinstance(a, torch.Tensor) for a in (*plain, *kwargs.values())):
        return None
    return (name, repr(plain), repr(sorted(kwargs.items())), clamp)


# --- operators with arguments of their own ----------------------------------------------------------------


def _argument(args: Args, kwargs: Kwargs, index: int, *names: str, default: Any = None) -> Any:
    if len(args) > index:
        return args[index]
    return next((kwargs[n] for n in names if n in kwargs), default)


def _axes(x: Codes, dims: Any) -> tuple[int, ...]:
    rank = x.codes.ndim
    listed = range(rank) if dims is None or dims == () else (dims if isinstance(dims, Sequence) else (dims,))
    return tuple(sorted({int(d) % rank for d in listed}))


def _reduction(fn: str) -> Callable[[Args, Kwargs], Code | None]:
    def build(args: Args, kwargs: Kwargs) -> Code | None:
        x = codes_of(args[0])
        if x is None or (fn in {"max", "min"} and len(args) > 1 and isinstance(args[1], torch.Tensor)):
            return None
        axes = _axes(x, _argument(args, kwargs, 1, "dim", "axis"))
        keep = bool(_argument(args, kwargs, 2, "keepdim", default=False))
        return lambda out, clamp: reduced(x, axes, keep, fn, out, clamp)

    return build


def _cumsum(args: Args, kwargs: Kwargs) -> Code | None:
    x = codes_of(args[0])
    if x is None or _argument(args, kwargs, 2, "dtype") is not None:
        return nothing
    axis = int(_argument(args, kwargs, 1, "dim", "axis"))
    if x.codes.ndim and x.codes.shape[axis] > longest("cumsum_axis_max"):
        return nothing
    return lambda out, clamp: accumulated(x, axis, out, clamp)


def _cat(args: Args, kwargs: Kwargs) -> Code | None:
    parts = [codes_of(t) for t in args[0]]
    known = [p for p in parts if p is not None]
    if len(known) != len(parts):
        return None
    axis = int(_argument(args, kwargs, 1, "dim", "axis", default=0))
    return lambda out, clamp: joined(known, axis, out, clamp)


def _stack(args: Args, kwargs: Kwargs) -> Code | None:
    axis = int(_argument(args, kwargs, 1, "dim", default=0))
    parts = [codes_of(t) for t in args[0]]
    known = [Codes(np.expand_dims(p.codes, axis), p.grid) for p in parts if p is not None]
    if len(known) != len(parts):
        return None
    return lambda out, clamp: joined(known, axis, out, clamp)


def _softmax(args: Args, kwargs: Kwargs) -> Code | None:
    x = codes_of(args[0])
    axis = _argument(args, kwargs, 1, "dim")
    if x is None or axis is None:
        return None
    return lambda out, clamp: softmaxed(x, int(axis), out, clamp)


def _matmul(args: Args, kwargs: Kwargs) -> Code | None:
    del kwargs
    a, b = codes_of(args[0]), codes_of(args[1])
    product = None if a is None or b is None else matrix_product(a, b)
    return nothing if product is None else product.rounded


def _avg_pool(rank: int) -> Callable[[Args, Kwargs], Code | None]:
    def build(args: Args, kwargs: Kwargs) -> Code | None:
        x = codes_of(args[0])
        if x is None or x.codes.ndim != rank + 2:
            return nothing
        size = _each(_argument(args, kwargs, 1, "kernel_size"), rank)
        stride = _each(_argument(args, kwargs, 2, "stride") or size, rank)
        pad = _each(_argument(args, kwargs, 3, "padding", default=0), rank)
        ceil = bool(_argument(args, kwargs, 4, "ceil_mode", default=False))
        counts_pad = bool(_argument(args, kwargs, 5, "count_include_pad", default=True))
        if _argument(args, kwargs, 6, "divisor_override") is not None or (ceil and counts_pad and any(pad)):
            return nothing
        if rank == 1:
            size, stride, pad = (1, *size), (1, *stride), (0, *pad)

        def sums(t: torch.Tensor) -> torch.Tensor:
            fill = 1.0 if counts_pad and bool((t == 1).all()) else 0.0
            t = t.unsqueeze(2) if rank == 1 else t
            if counts_pad:
                t = F.pad(t, [p for side in reversed(pad) for p in (side, side)], value=fill)
            inner = (0,) * len(pad) if counts_pad else pad
            pool = F.avg_pool3d if rank == 3 else F.avg_pool2d
            y = pool(t, size, stride, inner, ceil, True, 1)
            return y.squeeze(2) if rank == 1 else y

        return lambda out, clamp: averaged(x, sums, prod(size), out, clamp)

    return build


def _adaptive(rank: int) -> Callable[[Args, Kwargs], Code | None]:
    def build(args: Args, kwargs: Kwargs) -> Code | None:
        x = codes_of(args[0])
        size = _each(_argument(args, kwargs, 1, "output_size"), rank)
        if x is None or x.codes.ndim != rank + 2 or size != (1,) * rank:
            return nothing
        axes = tuple(range(2, rank + 2))
        return lambda out, clamp: reduced(x, axes, True, "mean", out, clamp)

    return build


def _each(value: Any, rank: int) -> tuple[int, ...]:
    """One number per axis; 0 where torch keeps a size."""
    given = value if isinstance(value, Sequence) else (value,) * rank
    return tuple(int(n or 0) for n in given) * (rank if len(given) == 1 else 1)


_LINEAR = {"bilinear": 4, "trilinear": 5}


def _interpolate(args: Args, kwargs: Kwargs) -> Code | None:
    x, mode = codes_of(args[0]), _argument(args, kwargs, 3, "mode")
    if x is None or x.codes.ndim != _LINEAR.get(mode):
        return nothing
    if _argument(args, kwargs, 6, "antialias", default=False):
        return nothing
    corners = bool(_argument(args, kwargs, 4, "align_corners", default=False))
    size = _argument(args, kwargs, 1, "size")
    factor = _argument(args, kwargs, 2, "scale_factor")
    shape = x.codes.shape[2:]
    given: Sequence[Any] = factor if isinstance(factor, Sequence) else (factor,) * len(shape)
    if size is None:
        size = tuple(int(n * float(f)) for n, f in zip(shape, given, strict=True))
    wanted = _each(size, len(shape))
    steps = [
        o / n if f is None else float(np.float32(f)) for n, o, f in zip(shape, wanted, given, strict=True)
    ]
    tables = [linear_table(n, o, f, corners) for n, o, f in zip(shape, wanted, steps, strict=True)]
    return lambda out, clamp: resized(x, tables, out, clamp)


def _grid_sample(args: Args, kwargs: Kwargs) -> Code | None:
    x, points = codes_of(args[0]), codes_of(args[1])
    mode = _argument(args, kwargs, 2, "mode", default="bilinear")
    padding = _argument(args, kwargs, 3, "padding_mode", default="zeros")
    if x is None or points is None or mode == "bicubic" or padding == "reflection" or x.codes.ndim != 4:
        return nothing
    if (x.grid.dtype, points.grid.dtype) != (DType.INT8, DType.INT16):
        return nothing
    corners = bool(_argument(args, kwargs, 4, "align_corners", default=False))
    way = Sampling(mode == "bilinear", padding == "border", corners)
    return lambda out, clamp: sampled(x, points, way, out, clamp)


def _lut(args: Args, kwargs: Kwargs) -> Code | None:
    del kwargs
    return partial(_unary, "lut", args, {})


_SPECIAL: dict[str, Callable[[Args, Kwargs], Code | None]] = {
    "sum": _reduction("sum"),
    "mean": _reduction("mean"),
    "amax": _reduction("max"),
    "amin": _reduction("min"),
    "max": _reduction("max"),
    "min": _reduction("min"),
    "cumsum": _cumsum,
    "cat": _cat,
    "stack": _stack,
    "softmax": _softmax,
    "matmul": _matmul,
    "bmm": _matmul,
    **{f"avg_pool{rank}d": _avg_pool(rank) for rank in (1, 2, 3)},
    **{f"adaptive_avg_pool{rank}d": _adaptive(rank) for rank in (1, 2, 3)},
    "interpolate": _interpolate,
    "grid_sample": _grid_sample,
    "lut": _lut,
    "where": where,
}

_AFFINE = frozenset({"add", "sub", "mul", "div"})
_PAIRS: dict[str, Callable[[Codes, Codes, Grid, Clamp], Int64]] = {
    "add": added,
    "sub": partial(added, sign=-1.0),
    "mul": multiplied,
    "maximum": partial(picked, pick=np.maximum),
    "div": divided,
    "minimum": partial(picked, pick=np.minimum),
    "add_relu": lambda a, b, out, clamp: added(a, b, out, (max(clamp[0], 0.0), clamp[1])),
}
