"""Quantization below the level of models: descriptors, differentiable quantize functions, quantizers.

quant_x, scale = tensor_quant(x, x.abs().max())         # integers, and what to divide them by
fake_quant_x = fake_tensor_quant(x, x.abs().max())      # rounded, with a straight-through gradient
quantizer = TensorQuantizer(QuantDescriptor(num_bits=8, calib_method="histogram"))
"""

from openbpu.quantization.torch.lowlevel.affine import (
    AffineTensor,
    qint8,
    qint32,
    quantize_per_channel,
    quantize_per_tensor,
    quint8,
)
from openbpu.quantization.torch.lowlevel.calibrators import HistogramCalibrator, MaxCalibrator
from openbpu.quantization.torch.lowlevel.descriptor import (
    QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL,
    QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL,
    QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL,
    QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL,
    QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL,
    QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL,
    QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW,
    QUANT_DESC_8BIT_PER_TENSOR,
    QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR,
    QuantDescriptor,
    ScaledQuantDescriptor,
)
from openbpu.quantization.torch.lowlevel.functions import (
    FakeTensorQuantFunction,
    TensorQuantFunction,
    fake_tensor_quant,
    tensor_quant,
)
from openbpu.quantization.torch.lowlevel.quantizer import TensorQuantizer

__all__ = [
    "QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW",
    "QUANT_DESC_8BIT_PER_TENSOR",
    "QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR",
    "AffineTensor",
    "FakeTensorQuantFunction",
    "HistogramCalibrator",
    "MaxCalibrator",
    "QuantDescriptor",
    "ScaledQuantDescriptor",
    "TensorQuantFunction",
    "TensorQuantizer",
    "fake_tensor_quant",
    "qint8",
    "qint32",
    "quantize_per_channel",
    "quantize_per_tensor",
    "quint8",
    "tensor_quant",
]
