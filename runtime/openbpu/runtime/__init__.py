"""Sessions: run a compiled program, BPU segments in the simulator and CPU segments on ONNX Runtime.

Imports `openbpu.arch`, `openbpu.simulator` and, only when a program has CPU segments, onnxruntime.
"""

from openbpu.runtime.latency import Latency, SegmentLatency
from openbpu.runtime.session import Mode, Result, Session
from openbpu.runtime.tensors import TensorInfo

__all__ = ["Latency", "Mode", "Result", "SegmentLatency", "Session", "TensorInfo"]
