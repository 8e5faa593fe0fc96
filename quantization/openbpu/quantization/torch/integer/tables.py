"""Functions of one operand: tables made from the float64 function that the exported graph says."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Float64, Int64
from openbpu.arch.dtypes import DType
from openbpu.arch.numerics.functions import POINTWISE
from openbpu.quantization.torch.integer.values import Codes, Grid
from openbpu.quantization.torch.qtensor.names import REFLECTED, TABLED, name_of

_FLOAT32_MAX = float(np.finfo(np.float32).max)


class NoTable(Exception):  # noqa: N818 - no error: an operator that no table holds
    """A function uses an operator that tables cannot hold."""


class Column:
    """Stands for a tensor while a torch function is evaluated on every code: float64, one value per code."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values, dtype=np.float64)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Column:
        del types
        return evaluate(name_of(func), args, kwargs or {})


def _operator(name: str) -> Callable[..., Column]:
    def method(self: Column, *args: Any, **kwargs: Any) -> Column:
        return evaluate(name, (self, *args), kwargs)

    return method


for _name in "add sub mul truediv radd rsub rmul rtruediv pow neg abs".split():  # noqa: SIM905 - reads better
    setattr(Column, f"__{_name}__", _operator({"truediv": "div", "rtruediv": "rdiv"}.get(_name, _name)))
for (
    _name
) in "relu sigmoid tanh exp log sqrt rsqrt reciprocal clamp abs neg square pow mul add sub div".split():  # noqa: SIM905
    setattr(Column, _name, _operator(_name))


def _real(value: Any) -> Float64:
    """An operand in float64; numbers and constants are float32 in the graph."""
    if isinstance(value, Column):
        return value.values
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    found = np.asarray(value)
    if found.size != 1:
        raise NoTable
    return np.asarray(np.float32(found.reshape(())), dtype=np.float64)


def evaluate(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Column:
    """Value of a torch function in float64, by the ONNX operators that the exporter writes for it."""
    if name in REFLECTED:
        name, args = name[1:], (args[1], args[0], *args[2:])
    named = _BY_NAME.get(name)
    if named is None:
        raise NoTable
    with np.errstate(all="ignore"):
        return Column(named(*args, **{k: v for k, v in kwargs.items() if k != "inplace"}))


def _onnx(op: str, **attrs: Any) -> Callable[..., Float64]:
    def function(*args: Any, **_: Any) -> Float64:
        return POINTWISE[op](attrs, *(_real(a) for a in args))

    return function


def _one(op: str, **attrs: Any) -> Callable[..., Float64]:
    """An operator of one operand, whatever other arguments torch passes."""
    return lambda x, *_, **__: POINTWISE[op](attrs, _real(x))


def _scaled(op: str) -> Callable[..., Float64]:
    """add, sub: x ± alpha·y."""
    return lambda a, b, *, alpha=1: POINTWISE[op]({}, _real(a), _real(b) * alpha)


def _clamp(x: Any, min: Any = None, max: Any = None, *_: Any) -> Float64:  # noqa: A002 - torch's own names
    return POINTWISE["Clip"]({}, _real(x), *(None if v is None else _real(v) for v in (min, max)))


def _silu(x: Any, *_: Any) -> Float64:
    return _real(x) * POINTWISE["Sigmoid"]({}, _real(x))


def _leaky(x: Any, negative_slope: float = 0.01, *_: Any) -> Float64:
    return POINTWISE["LeakyRelu"]({"alpha": float(np.float32(negative_slope))}, _real(x))


def _elu(x: Any, alpha: float = 1.0, *_: Any) -> Float64:
    return POINTWISE["Elu"]({"alpha": float(np.float32(alpha))}, _real(x))


def _celu(x: Any, alpha: float = 1.0, *_: Any) -> Float64:
    return POINTWISE["Celu"]({"alpha": float(np.float32(alpha))}, _real(x))


def _gelu(x: Any, approximate: str = "none") -> Float64:
    return POINTWISE["Gelu"]({"approximate": approximate}, _real(x))


def _hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0, *_: Any) -> Float64:
    return _clamp(x, min_val, max_val)


def _hard_sigmoid(x: Any, *_: Any) -> Float64:
    sixth = float(np.float32(1 / 6))
    return POINTWISE["HardSigmoid"]({"alpha": sixth, "beta": 0.5}, _real(x))


def _rsqrt(x: Any) -> Float64:
    return POINTWISE["Reciprocal"]({}, POINTWISE["Sqrt"]({}, _real(x)))


def _softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Float64:
    del threshold
    factor = _real(beta)
    return POINTWISE["Softplus"]({}, _real(x) * factor) / factor


def _shrink(x: Any, lambd: float = 0.5, *, soft: bool) -> Float64:
    lambd = float(np.float32(lambd))
    return POINTWISE["Shrink"]({"lambd": lambd, "bias": lambd if soft else 0.0}, _real(x))


def _where(condition: Any, x: Any, y: Any) -> Float64:
    return POINTWISE["Where"]({}, _real(condition), _real(x), _real(y))


def _compared(op: str) -> Callable[..., Float64]:
    return lambda a, b: POINTWISE[op]({}, _real(a), _real(b))


def _div(a: Any, b: Any, *, rounding_mode: str | None = None) -> Float64:
    if rounding_mode is not None:
        raise NoTable
    return POINTWISE["Div"]({}, _real(a), _real(b))


ONE_TO_ONE = {
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "reciprocal": "Reciprocal",
    "abs": "Abs",
    "neg": "Neg",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "erf": "Erf",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "asin": "Asin",
    "acos": "Acos",
    "atan": "Atan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "asinh": "Asinh",
    "acosh": "Acosh",
    "atanh": "Atanh",
    "floor": "Floor",
    "ceil": "Ceil",
    "round": "Round",
    "sign": "Sign",
    "hardswish": "HardSwish",
    "mish": "Mish",
    "selu": "Selu",
    "softsign": "Softsign",
}
"""Functions that are one ONNX operator without attributes."""

_BY_NAME: dict[str, Callable[..., Float64]] = {
    "add": _scaled("Add"),
    "sub": _scaled("Sub"),
    "mul": _onnx("Mul"),
    "div": _div,
    "pow": _onnx("Pow"),
    "maximum": _onnx("Max"),
    "minimum": _onnx("Min"),
    "square": lambda x: _real(x) * _real(x),
    "relu": _one("Relu"),
    "threshold": lambda x, threshold, value, *_: _where(evaluate("gt", (x, threshold), {}), x, value),
    "where": _where,
    "clamp_min": _clamp,
    "clamp_max": lambda x, max: _clamp(x, None, max),  # noqa: A006 - torch's own names
    **{name: _compared(op) for name, op in TABLED.items()},
    "relu6": lambda x, *_: _clamp(x, 0.0, 6.0),
    "clamp": _clamp,
    "hardtanh": _hardtanh,
    "silu": _silu,
    "leaky_relu": _leaky,
    "elu": _elu,
    "celu": _celu,
    "gelu": _gelu,
    "hardsigmoid": _hard_sigmoid,
    "rsqrt": _rsqrt,
    "expm1": lambda x: POINTWISE["Exp"]({}, _real(x)) - 1.0,
    "log1p": lambda x: POINTWISE["Log"]({}, _real(x) + 1.0),
    "tanhshrink": lambda x: _real(x) - POINTWISE["Tanh"]({}, _real(x)),
    "hardshrink": partial(_shrink, soft=False),
    "softshrink": partial(_shrink, soft=True),
    "logsigmoid": lambda x: POINTWISE["Log"]({}, POINTWISE["Sigmoid"]({}, _real(x))),
    "softplus": _softplus,
    **{name: _one(op) for name, op in ONE_TO_ONE.items()},
}


def looked_up(x: Codes, function: Callable[[Any], Any], out: Grid, key: Any = None) -> Int64:
    """Codes of function(x) on the grid `out`, as the BPU's table or rescale gives them; raises NoTable.

    `key` names the function and its constants, so that its table is made once.
    """
    if key is None:
        return _apply(_made(function, x.grid, out), x, out)
    return _apply(_cached(key, _Hidden(function), x.grid, out), x, out)


class _Hidden:
    """A function that takes no part in comparing cache keys."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=512)
def _cached(key: Any, hidden: _Hidden, grid: Grid, out: Grid) -> tuple[str, Any]:
    del key
    return _made(hidden.function, grid, out)


def _made(function: Callable[[Any], Any], grid: Grid, out: Grid) -> tuple[str, Any]:
    """("rescale", factors), ("product", factors), ("table", 256 codes) or ("segments", rows)."""
    codes = numerics.codes(grid.dtype).astype(np.float64)
    x = codes * grid.s
    result = function(Column(x))
    if not isinstance(result, Column):
        raise NoTable
    y = np.broadcast_to(result.values, x.shape)
    target = np.clip(np.nan_to_num(y, nan=0.0), -_FLOAT32_MAX, _FLOAT32_MAX)
    straight = numerics.line(x, target) if grid.dtype is DType.INT16 else None
    if straight is not None:
        slope, offset = straight
        fixed = numerics.fixed_point_sum((slope * grid.s / out.s,), (float(grid.reach),), offset / out.s)
        return "rescale", (fixed, out.bounds((float(target.min()), float(target.max()))))
    square = numerics.parabola(codes, target) if grid.dtype is DType.INT16 else None
    if square is not None:
        return "product", (square, *_product(square, grid, out, target))
    if grid.dtype is DType.INT8:
        return "table", np.clip(np.rint(target / out.s), out.dtype.qmin, out.dtype.qmax).astype(np.int64)
    wanted = target / out.s
    segments = numerics.segment_table(wanted, out.dtype.qmin, out.dtype.qmax)
    error = numerics.segment_error(wanted, segments, out.dtype.qmin, out.dtype.qmax)
    allowed = numerics.segment_allowance(wanted, out.dtype.qmin, out.dtype.qmax)
    if error > allowed:
        return "refused", numerics.segment_refusal("the function", error, allowed)
    return "segments", segments


def _product(square: numerics.Parabola, grid: Grid, out: Grid, target: Float64) -> tuple[Any, Any]:
    low, high = grid.dtype.qmin, grid.dtype.qmax
    first, second = (max(high - p, p - low) for p in (square.first, square.second))
    fixed = numerics.fixed_point_sum(
        (square.factor / out.s,), (float(first * second),), square.offset / out.s
    )
    return fixed, out.bounds((float(target.min()), float(target.max())))


def _apply(made: tuple[str, Any], x: Codes, out: Grid) -> Int64:
    kind, content = made
    if kind == "rescale":
        fixed, bounds = content
        total = x.codes * fixed.multipliers[0] + fixed.offset
        return numerics.requantize(total, fixed.shift, 0, *bounds)
    if kind == "product":
        square, fixed, bounds = content
        product = (x.codes - square.first) * (x.codes - square.second)
        return numerics.requantize(product * fixed.multipliers[0] + fixed.offset, fixed.shift, 0, *bounds)
    if kind == "table":
        table: Int64 = content
        return table[x.codes + 128]
    if kind == "refused":
        raise NoTable(content)
    return numerics.segment_lut(x.codes, content, out.dtype.qmin, out.dtype.qmax)
