"""A quantized ONNX model becomes a program: read, fold, integerise, place, partition, schedule, emit.

Imports `openbpu.arch`, onnx and numpy. It never imports the simulator: they meet in the bytes of the `.hbm`.
"""
