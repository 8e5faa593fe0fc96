"""The integer arithmetic of a converted model: what the BPU computes, through `openbpu.arch.numerics`.

Every entry returns None where an operator runs on the CPU in float; its result is then quantized as float.
"""

from openbpu.quantization.torch.integer.entries import (
    constant,
    dequantize,
    functional,
    module,
    quantize,
    rescaled,
    sloped,
    weighted,
)

__all__ = ["constant", "dequantize", "functional", "module", "quantize", "rescaled", "sloped", "weighted"]
