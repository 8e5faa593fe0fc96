"""From kernels in Python to machine code in a file:

which CPU this is, how kernels compile, where they are kept.
"""
