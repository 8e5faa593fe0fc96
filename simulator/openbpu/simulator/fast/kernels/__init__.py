"""The loops of the operators. A kernel is `kernel(args, lo, hi, scratch)`: it does the units lo..hi−1 of one
step.

`args` points to the int64 arguments of the step (addresses and numbers), `scratch` to memory of the calling
thread. Units never overlap, so any number of threads may share a step and the bits stay the same.
"""
