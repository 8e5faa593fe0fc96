"""How the fake quantization of an exported graph becomes QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

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

    return {torch.ops.openbpu.fake_quantize.default: fake_quantize, torch.ops.aten.softplus.default: softplus}


def _onnx_type(dtype: np.dtype[Any]) -> int:
    from onnx import helper  # noqa: PLC0415 - only for exporting

    return int(helper.np_dtype_to_tensor_dtype(dtype))
