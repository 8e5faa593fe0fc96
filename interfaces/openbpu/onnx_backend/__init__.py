"""openbpu as an ONNX backend (`onnx.backend.base`), for ONNX's own node tests and for tools that speak it.

Imports any package of openbpu below the command, onnx and numpy.
"""
