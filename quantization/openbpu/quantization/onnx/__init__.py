"""Post-training quantization: a float ONNX model and calibration data become a QDQ model.

Imports `openbpu.arch`, numpy, onnx, onnxruntime (to observe ranges) and Pillow (to read image folders).
"""
