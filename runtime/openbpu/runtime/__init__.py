"""Runs a `.hbm`: BPU segments on the simulator, CPU segments on ONNX Runtime; outputs and measurements.

Imports `openbpu.arch`, `openbpu.simulator`, numpy, onnx and onnxruntime.
"""
