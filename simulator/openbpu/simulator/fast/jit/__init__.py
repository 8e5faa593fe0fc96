"""From kernels in Python to machine code in a file: which CPU this is, how they compile, where they lie."""
