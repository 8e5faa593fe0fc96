"""export: a prepared model becomes a QDQ ONNX model."""

from openbpu.quantization.torch.export.api import export

__all__ = ["export"]
