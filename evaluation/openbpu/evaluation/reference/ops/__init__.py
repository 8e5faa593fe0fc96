"""The kernels of the witness, one file per family; importing the package registers them all."""

from openbpu.evaluation.reference.ops import (
    activation,
    constants,
    convolution,
    elementwise,
    matmul,
    movement,
    normalization,
    pooling,
    qoperator,
    quantize,
    reduction,
    resize,
    sampling,
)

__all__ = [
    "activation",
    "constants",
    "convolution",
    "elementwise",
    "matmul",
    "movement",
    "normalization",
    "pooling",
    "qoperator",
    "quantize",
    "reduction",
    "resize",
    "sampling",
]
