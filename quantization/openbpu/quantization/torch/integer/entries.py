"""What the modules of a converted model call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from openbpu.arch import numerics
from openbpu.quantization.torch.errors import CpuOperatorWarning
from openbpu.quantization.torch.integer.elementwise import Computed, preluded
from openbpu.quantization.torch.integer.listed import left_to_cpu
from openbpu.quantization.torch.integer.operators import Clamped, deferred
from openbpu.quantization.torch.integer.products import batch_norm_product, weighted_product
from openbpu.quantization.torch.integer.tables import NoTable, looked_up
from openbpu.quantization.torch.integer.values import (
    OPEN,
    Clamp,
    Codes,
    Deferred,
    codes_of,
    grid_of,
    raw_tensor,
    tensor_of,
)
from openbpu.quantization.torch.qtensor.tensor import QTensor, unwrap
from openbpu.quantization.torch.scope import here, warn_user

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def quantize(stub: Any, x: Any) -> QTensor:
    """A QuantStub: float32 divided by the scale, in float32."""
    quantizer = stub.output_quantizer
    if quantizer is None:
        return QTensor(unwrap(x), None)
    if codes_of(x) is not None:
        return rescaled(quantizer, x)
    return _rounded(quantizer, unwrap(x))


def constant(quantizer: Any, values: torch.Tensor) -> QTensor:
    """A constant of the model on a quantizer's grid: beside it, what computes may look at its values."""
    made = _rounded(quantizer, values)
    made.is_constant = True
    return made


def _rounded(quantizer: Any, values: torch.Tensor) -> QTensor:
    """Float values on a quantizer's grid."""
    grid = grid_of(quantizer)
    data = values.detach().cpu().numpy()
    return tensor_of(numerics.quantize(data, grid.s, 0, grid.dtype).astype(np.int64), quantizer)


def dequantize(x: QTensor) -> torch.Tensor:
    """A DeQuantStub: code · scale in float32."""
    plain: torch.Tensor = x.plain
    return plain


def rescaled(quantizer: Any, x: QTensor) -> QTensor:
    """Codes on another grid."""
    operand, out = codes_of(x), grid_of(quantizer)
    if operand is None:
        return _rounded(quantizer, x.plain)
    if operand.grid == out:
        return x
    return tensor_of(looked_up(operand, lambda column: column, out, "identity"), quantizer)


def weighted(module: Any, x: QTensor) -> QTensor | None:
    """A convolution or linear layer with what is fused into it; None where it runs on the CPU."""
    product = weighted_product(module, x)
    if product is None:
        return _on_cpu(module, lambda: module.float_result(x.plain))
    return _settled(module, product, _relu_bounds(getattr(module, "relu", None)))


def functional(module: Any, name: str, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """A FloatFunctional's operator; None where its result is no single float tensor."""

    def real() -> Any:
        found = func(*unwrap(args), **unwrap(kwargs))
        return (found[0] if isinstance(found, tuple) else found).detach().numpy()

    operands = (*args, func, _token(module)) if name == "lut" else args
    with torch.no_grad():
        if name in {"max", "min"} and isinstance(both := func(*unwrap(args), **unwrap(kwargs)), tuple):
            values = _settled(module, deferred(name, operands, kwargs, real), _relu_bounds(module.fused_relu))
            return type(both)((values, *both[1:]))
        result = deferred(name, operands, kwargs, real)
        return _settled(module, result, _relu_bounds(module.fused_relu))


def _token(layer: Any) -> object:
    """What stands for a converted module's function: its table is made once."""
    return layer.__dict__.setdefault("baked", object())


def module(layer: Any, name: str, args: Args, kwargs: Kwargs) -> Any:
    """An activation, pool or norm module."""
    del kwargs
    x = args[0]
    float_class: Any = type(layer).__bases__[1]

    def real() -> Any:
        return float_class.forward(layer, *unwrap(args)).detach().numpy()

    with torch.no_grad():
        operand = codes_of(x)
        if name == "batch_norm":
            if operand is None or operand.codes.ndim > 5:
                return _settled(layer, Computed(_never, real), OPEN)
            return _settled(layer, batch_norm_product(layer, operand), OPEN)
        known = _ARGUMENTS.get(name)
        return _settled(layer, deferred(name, (x, *(known(layer) if known else ())), {}, real), OPEN)


def sloped(layer: Any, x: QTensor, slope: QTensor) -> QTensor:
    """A PReLU with quantized slopes per channel (axis 1)."""

    def real() -> Any:
        return torch.nn.functional.prelu(x.plain, slope.plain).detach().numpy()

    operand, factor = codes_of(x), codes_of(slope)
    if operand is None or factor is None or left_to_cpu("prelu"):
        return _settled(layer, Computed(_never, real), OPEN)
    if factor.codes.size > 1:
        shape = (1, -1, *([1] * (operand.codes.ndim - 2)))
        factor = Codes(factor.codes.reshape(shape), factor.grid)
    return _settled(layer, Computed(partial(preluded, operand, factor), real), OPEN)


def _window(pool: Any) -> Args:
    given = (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, pool.count_include_pad)
    return (*given, getattr(pool, "divisor_override", None))  # AvgPool1d has none


_ARGUMENTS: dict[str, Callable[[Any], Args]] = {
    "leaky_relu": lambda m: (m.negative_slope,),
    "elu": lambda m: (m.alpha,),
    "celu": lambda m: (m.alpha,),
    "gelu": lambda m: (m.approximate,),
    "hardtanh": lambda m: (m.min_val, m.max_val),
    "softplus": lambda m: (m.beta, m.threshold),
    "softmax": lambda m: (getattr(m, "dim", 1),),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), _window),
    **{f"adaptive_avg_pool{rank}d": lambda m: (m.output_size,) for rank in (1, 2, 3)},
}


def _never(*_: Any) -> Any:
    return None


def _relu_bounds(relu: Any) -> Clamp:
    if relu is None:
        return OPEN
    return (0.0, 6.0) if type(relu).__name__ == "ReLU6" else (0.0, np.inf)


def _settled(layer: Any, result: Deferred, clamp: Clamp) -> QTensor:
    """Round a result where the module has a quantizer; else hand it on unrounded."""
    quantizer = layer.output_quantizer
    if quantizer is None:
        return raw_tensor(result if clamp == OPEN else Clamped(result, clamp))
    why = ""
    try:
        codes = result.rounded(grid_of(quantizer), clamp)
    except (NoTable, OverflowError) as refused:
        codes, why = None, str(refused)
    if codes is not None:
        return tensor_of(codes, quantizer)
    return _on_cpu(layer, lambda: torch.from_numpy(np.asarray(Clamped(result, clamp).real())), why)


def _on_cpu(layer: Any, compute: Callable[[], torch.Tensor], why: str = "") -> QTensor:
    """An operator that has no BPU form: float32, then quantized as ONNX's QuantizeLinear does it."""
    if not layer.__dict__.get("told"):
        layer.told = True
        reason = f"{why}; " if why else ""
        warn_user(
            f"{here()}: '{layer.bpu_path}' runs on the CPU: {reason}its float32 result may differ from ONNX "
            "Runtime's in the last bit; openbpu.compat.deploy.check_model says why it is there",
            CpuOperatorWarning,
        )
    with torch.no_grad():
        y = compute().detach().cpu()
    quantizer = layer.output_quantizer
    if quantizer is None:
        return QTensor(y, None)
    return _rounded(quantizer, y)
