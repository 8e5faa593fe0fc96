"""Post-training quantization of float ONNX models: `quantize`, `quantize_random`, `load_calibration`."""

from openbpu.quantization.onnx.api import METHODS, Method, quantize, quantize_random, quantize_unseen
from openbpu.quantization.onnx.choice import Choice
from openbpu.quantization.onnx.config import ConfigLike, QuantConfig, read_config, with_node_types
from openbpu.quantization.onnx.corrections import Correction, Corrections
from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.judge import output_cosines
from openbpu.quantization.onnx.load import NothingLeftError, is_quantized
from openbpu.quantization.onnx.load import read_model as read_float
from openbpu.quantization.onnx.looks import InputLook
from openbpu.quantization.onnx.prepare import optimized
from openbpu.quantization.onnx.report import Report
from openbpu.quantization.onnx.samples import Calibration, load_calibration
from openbpu.quantization.onnx.tensor_range import TensorRange
from openbpu.quantization.onnx.usage import RangeUse
from openbpu.quantization.save import write_model as write

__all__ = [
    "METHODS",
    "Calibration",
    "Choice",
    "ConfigLike",
    "Correction",
    "Corrections",
    "Finding",
    "InputLook",
    "Method",
    "NothingLeftError",
    "QuantConfig",
    "RangeUse",
    "Report",
    "TensorRange",
    "is_quantized",
    "load_calibration",
    "optimized",
    "output_cosines",
    "quantize",
    "quantize_random",
    "quantize_unseen",
    "read_config",
    "read_float",
    "with_node_types",
    "write",
]
