"""openbpu as an ONNX backend: compile, then simulate; what is not quantized runs on the CPU.

    import openbpu.onnx_backend as backend
    outputs = backend.prepare(onnx.load("model.onnx"), march="nash-e").run([image])

Imports any package of openbpu but cli.
"""

from openbpu.onnx_backend.backend import OpenbpuBackend, OpenbpuRep

is_compatible = OpenbpuBackend.is_compatible
prepare = OpenbpuBackend.prepare
run_model = OpenbpuBackend.run_model
run_node = OpenbpuBackend.run_node
supports_device = OpenbpuBackend.supports_device

__all__ = [
    "OpenbpuBackend",
    "OpenbpuRep",
    "is_compatible",
    "prepare",
    "run_model",
    "run_node",
    "supports_device",
]
