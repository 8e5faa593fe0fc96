"""Modules without quantized weights: activations, pools, norms that compute one function."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own custom

from openbpu.quantization.torch.qtensor.tensor import QTensor, qtensors, unwrap
from openbpu.quantization.torch.quantized import Quantized


class Simple(Quantized):
    """Mixed in before a float module's class: the same function, its result quantized.

    Plain inputs give plain results: what stands behind a DeQuantStub stays float.
    """

    function: str = ""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the float function and quantize it."""
        found = qtensors((args, kwargs))
        if not found:
            return super().forward(*args, **kwargs)
        args, kwargs = self.requantized(args), self.requantized(kwargs)
        if self.integer:
            from openbpu.quantization.torch.integer import module  # noqa: PLC0415 - converted models only

            result = module(self, self.function, args, kwargs)
            if result is not None:
                return result
        return self.finish(self.function, super().forward(*unwrap(args), **unwrap(kwargs)), found)


_FUNCTIONS = {
    "ReLU": "relu",
    "ReLU6": "relu6",
    "LeakyReLU": "leaky_relu",
    "ELU": "elu",
    "SELU": "selu",
    "CELU": "celu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Mish": "mish",
    "Hardswish": "hardswish",
    "Hardsigmoid": "hardsigmoid",
    "Hardtanh": "hardtanh",
    "Sigmoid": "sigmoid",
    "LogSigmoid": "logsigmoid",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Softmax": "softmax",
    "Softmax2d": "softmax",
    "AvgPool1d": "avg_pool1d",
    "AvgPool2d": "avg_pool2d",
    "AvgPool3d": "avg_pool3d",
    "AdaptiveAvgPool1d": "adaptive_avg_pool1d",
    "AdaptiveAvgPool2d": "adaptive_avg_pool2d",
    "AdaptiveAvgPool3d": "adaptive_avg_pool3d",
    "BatchNorm1d": "batch_norm",
    "BatchNorm2d": "batch_norm",
    "BatchNorm3d": "batch_norm",
    "SyncBatchNorm": "batch_norm",
}
"""Float class in torch.nn → name of its function."""


def _mixed(name: str, function: str) -> type[Simple]:
    base = getattr(nn, name)
    made = type(
        name, (Simple, base), {"function": function, "__doc__": f"nn.{name} with a quantized result."}
    )
    made.__module__ = __name__
    return made


class PReLU(Simple, nn.PReLU):
    """nn.PReLU with a quantized result, its slopes int8 (`weight_fake_quant`, one scale)."""

    function = "prelu"

    def forward(self, x: Any) -> Any:
        """Compute max(x, 0) + slope · min(x, 0)."""
        return self.sloped(x, self.weight)

    def sloped(self, x: Any, weight: torch.Tensor) -> Any:
        """The function with these slopes."""
        quantizer = self._modules.get("weight_fake_quant")
        if quantizer is None or not isinstance(x, QTensor):
            return (
                self.finish(self.function, F.prelu(x.plain, weight), [x])
                if isinstance(x, QTensor)
                else F.prelu(x, weight)
            )
        if self.integer:
            from openbpu.quantization.torch.integer import constant, sloped  # noqa: PLC0415 - converted models

            return sloped(self, x, constant(quantizer, weight))
        return self.finish(self.function, F.prelu(x.plain, quantizer.rounded(weight)), [x])


SIMPLE: dict[type, type[Simple]] = {
    **{
        getattr(nn, name): _mixed(name, function)
        for name, function in _FUNCTIONS.items()
        if hasattr(nn, name)
    },
    nn.PReLU: PReLU,
}
globals().update({cls.__name__: cls for cls in SIMPLE.values()})  # so that pickle finds them
