"""What kernels are written in: numba without Python's values, typed addresses, records, blocks of int64.

A kernel is `kernel(args, lo, hi, scratch)`: it does the units lo..hi−1 of one step. `args` is the record that
its declaration describes, `scratch` memory of the calling thread (`fast.scratch`). Units never overlap, so
any number of threads may share a step and the bits stay the same.
"""
