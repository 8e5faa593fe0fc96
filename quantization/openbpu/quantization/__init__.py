"""A float model becomes a QDQ model: `.torch` (observers, QAT, export) and `.onnx` (calibration).

Imports `openbpu.arch`, numpy and onnx. Only `openbpu.quantization.torch` imports torch, which is an extra.
"""
