"""A program becomes values and cycles: whole-layer kernels, tile by tile, or time only.

Imports `openbpu.arch`, numpy, numba and llvmlite. It never imports the compiler: they meet in the
bytes of the `.hbm`.
"""
