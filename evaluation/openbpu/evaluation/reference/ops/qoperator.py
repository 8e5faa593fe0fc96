"""QOperator forms (QLinearConv, ...): dequantize, the float operator, quantize, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from openbpu.evaluation.reference.kernel import KERNELS, Array, Call, Kernel, Quantized, kernel
from openbpu.evaluation.reference.ops.activation import sigmoid
from openbpu.evaluation.reference.ops.convolution import conv
from openbpu.evaluation.reference.ops.matmul import gemm
from openbpu.evaluation.reference.ops.normalization import softmax, softmax_axes
from openbpu.evaluation.reference.ops.pooling import average_pool, max_pool
from openbpu.evaluation.reference.ops.quantize import dequantize, quantize


def _operand(call: Call, first: int, axis: int = 1) -> Array:
    """The operand whose value, scale and zero point are the inputs from ``first`` on."""
    return dequantize(call[first], call[first + 1], call.get(first + 2), axis)


def _result(call: Call, value: Array, first: int) -> Quantized:
    """Quantize with the scale and zero point that are the inputs from ``first`` on."""
    zero = call.get(first + 1)
    return quantize(value, call[first], np.zeros((), call[0].dtype) if zero is None else zero)


def _conv(call: Call, x: Array) -> Quantized:
    """The int32 bias has the scale x_scale * w_scale."""
    w, bias = _operand(call, 3, axis=0), call.get(8)
    if bias is not None:
        bias = bias * (call[1].astype(np.float64) * call[4].astype(np.float64))
    return _result(call, conv(call, x, w, bias), 6)


@kernel("QLinearConv")
def qlinear_conv(call: Call) -> Quantized:
    """See `_conv`."""
    return _conv(call, _operand(call, 0))


@kernel("com.microsoft.QLinearConv")
def qlinear_conv_of_any_layout(call: Call) -> Quantized:
    """As QLinearConv; with `channels_last` input and result are N×H×W×C, the weight is as ever."""
    if not call.attr("channels_last", 0):
        return _conv(call, _operand(call, 0))
    made = _conv(call, np.moveaxis(_operand(call, 0), -1, 1))
    return replace(made, scaled=np.moveaxis(made.scaled, 1, -1))


@kernel("com.microsoft.NhwcMaxPool")
def nhwc_max_pool(call: Call) -> Array:
    """As MaxPool; input and result are N×H×W×C."""
    x = np.moveaxis(call[0], -1, 1)
    return np.moveaxis(np.asarray(max_pool(replace(call, inputs=(x,)))), 1, -1)


def _rows(parameter: Array) -> Array:
    """Per-row parameters of a left operand: a vector lies along the last axis but one."""
    return parameter[:, None] if parameter.ndim == 1 and parameter.size > 1 else parameter


@kernel("QLinearMatMul")
def qlinear_matmul(call: Call) -> Quantized:
    """Parameters per tensor, per row of A, or per column of B."""
    a = (call[0].astype(np.float64) - _rows(call[2])) * _rows(call[1])
    b = (call[3].astype(np.float64) - call[5]) * call[4].astype(np.float64)
    return _result(call, np.matmul(a, b), 6)


@kernel("com.microsoft.QGemm")
def qgemm(call: Call) -> Quantized | Array:
    """Float when no output scale is given; the bias has the scale alpha * a_scale * b_scale."""
    a = _operand(call, 0)
    b = _operand(call, 3, axis=0 if call.attr("transB", 0) else 1)
    product = gemm(call, a, b, None)
    bias = call.get(6)
    if bias is not None:
        step = call[1].astype(np.float64) * call[4].astype(np.float64)
        product = product + call.real("alpha", 1.0) * step * bias
    return product if call.get(7) is None else _result(call, product, 7)


def _binary(function: Callable[[Array, Array], Array]) -> Kernel:
    return lambda call: _result(call, function(_operand(call, 0), _operand(call, 3)), 6)


def _unary(function: Callable[[Call, Array], Array]) -> Kernel:
    return lambda call: _result(call, function(call, _operand(call, 0)), 3)


def _leaky(call: Call, x: Array) -> Array:
    return np.where(x < 0, call.real("alpha", 0.01) * x, x)


def _spatial_mean(call: Call, x: Array) -> Array:
    axes = tuple(range(1, x.ndim - 1)) if call.attr("channels_last", 0) else tuple(range(2, x.ndim))
    return np.asarray(x.mean(axis=axes, keepdims=True))


def _average(call: Call, x: Array) -> Array:
    if not call.attr("channels_last", 0):
        return average_pool(call, x)
    return np.moveaxis(average_pool(call, np.moveaxis(x, -1, 1)), 1, -1)


def _reduce_mean(call: Call, x: Array) -> Array:
    axes = call.attr("axes")
    keep = bool(call.attr("keepdims", 1))
    return np.asarray(x.mean(axis=None if axes is None else tuple(axes), keepdims=keep))


def _softmax(call: Call, x: Array) -> Array:
    """The attribute ``opset`` says which Softmax is meant."""
    return softmax(x, softmax_axes(replace(call, opset=call.attr("opset", 13))))


KERNELS.update(
    {
        "com.microsoft.QLinearAdd": _binary(np.add),
        "com.microsoft.QLinearMul": _binary(np.multiply),
        "com.microsoft.QLinearSigmoid": _unary(lambda _, x: sigmoid(x)),
        "com.microsoft.QLinearLeakyRelu": _unary(_leaky),
        "com.microsoft.QLinearGlobalAveragePool": _unary(_spatial_mean),
        "com.microsoft.QLinearAveragePool": _unary(_average),
        "com.microsoft.QLinearReduceMean": _unary(_reduce_mean),
        "com.microsoft.QLinearSoftmax": _unary(_softmax),
    }
)


@kernel("com.microsoft.QLinearConcat")
def qlinear_concat(call: Call) -> Quantized:
    """The output's scale and zero point come first, then each operand's three inputs."""
    parts = [_operand(call, i) for i in range(2, len(call.inputs), 3)]
    value = np.concatenate(parts, axis=call.attrs["axis"])
    return quantize(value, call[0], call[1])


@kernel("com.microsoft.QLinearWhere")
def qlinear_where(call: Call) -> Quantized:
    """Condition, two operands with their parameters, those of the result."""
    return _result(call, np.where(call[0], _operand(call, 1), _operand(call, 4)), 7)


@kernel("com.microsoft.MatMulIntegerToFloat")
def matmul_integer_to_float(call: Call) -> Array:
    """Two operands, their scales, their zero points, a float bias."""
    a = dequantize(call[0], call[2], call.get(4))
    b = dequantize(call[1], call[3], call.get(5), call[1].ndim - 1)
    bias = call.get(6)
    return np.asarray(np.matmul(a, b) + (0.0 if bias is None else bias))
