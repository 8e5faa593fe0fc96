"""How the fake quantization of an exported graph becomes QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from openbpu.quantization.torch.errors import ExportError

_CODES: dict[int, np.dtype[Any]] = {-128: np.dtype(np.int8), -32768: np.dtype(np.int16)}


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The custom translation table for torch.onnx.export."""
    op = importlib.import_module("onnxscript").opset21

    def fake_quantize(x: Any, scale: Any, zero_point: Any, qmin: int, qmax: int, axis: int) -> Any:
        del qmax
        zeros = op.Cast(zero_point, to=_onnx_type(_CODES[qmin]))
        if axis < 0:
            return op.DequantizeLinear(op.QuantizeLinear(x, scale, zeros), scale, zeros)
        codes = op.QuantizeLinear(x, scale, zeros, axis=axis)
        return op.DequantizeLinear(codes, scale, zeros, axis=axis)

    def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
        del threshold  # beyond it torch returns x, which Softplus equals there in float32
        if beta == 1.0:
            return op.Softplus(x)
        scale = op.Constant(value_float=beta)
        return op.Div(op.Softplus(op.Mul(x, scale)), scale)

    def adaptive_avg_pool3d(x: Any, output_size: Sequence[int]) -> Any:
        sizes = list(x.shape)[-3:]
        rest = [n % int(out) for n, out in zip(sizes, output_size, strict=True)]
        if any(rest):
            raise ExportError(
                f"adaptive_avg_pool3d: every size of its result must divide that of its input {sizes}, not "
                f"{list(output_size)}; use avg_pool3d, or interpolate in front"
            )
        kernel = [n // int(out) for n, out in zip(sizes, output_size, strict=True)]
        return op.AveragePool(x, kernel_shape=kernel, strides=kernel)

    aten = torch.ops.aten
    return {
        torch.ops.openbpu.fake_quantize.default: fake_quantize,
        aten.softplus.default: softplus,
        aten._adaptive_avg_pool3d.default: adaptive_avg_pool3d,  # noqa: SLF001 - what the graph calls
    }


def _onnx_type(dtype: np.dtype[Any]) -> int:
    from onnx import helper  # noqa: PLC0415 - only for exporting

    return int(helper.np_dtype_to_tensor_dtype(dtype))
