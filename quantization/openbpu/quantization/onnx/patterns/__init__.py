"""Patterns: what exporters write in many nodes, or in an operator the BPU lacks, as the one that it has.

    ReduceMean → Sub → Pow 2 → ReduceMean → Add ε → Sqrt → Div → Mul → Add     becomes     LayerNormalization

Each step of a pattern would be rounded on its own, and the means and roots of int8 steps lose what a norm is
for; so patterns are fused before ranges are taken. They are found by what they compute, not by how they are
written (`algebra`). A pattern whose inner tensor is read elsewhere, or is an output, stays as it is.
"""

from openbpu.quantization.onnx.patterns.fusing import fuse_patterns, opset_of_patterns

__all__ = ["fuse_patterns", "opset_of_patterns"]
