"""What lies in the scratch memory of a thread: blocks of int64, or the tiles of a layer that accumulates."""

SCRATCH = 65536
"""Bytes per thread."""

BLOCK = 1024
"""Elements of a block of int64: four of them stay in the first-level cache."""

WIDE_AT, BYTES_AT = 4096, 12288
"""Behind the int32 tile: the int64 tile, and the bytes before a table."""

CHUNK = 4096
"""Elements of one unit where vector kernels walk through bytes: enough to be worth a call."""
