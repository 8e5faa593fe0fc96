"""What the chip is: marches, integer numerics, instruction set, `.hbm` container, errors.

Compiler, simulator, quantization and runtime share this package and meet nowhere else. It imports numpy
and the standard library only.
"""
