"""A float model becomes a QDQ model: `.torch` (observers, QAT, export) and `.onnx` (calibration).

Both take the ranges of their scales from `.ranges` and write models with `.save`.

Imports `openbpu.arch`, numpy and onnx. Only `openbpu.quantization.torch` imports torch, which is an extra.
"""
