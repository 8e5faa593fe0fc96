"""What vector.pack64 is given."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openbpu.simulator.fast.lower.steps import Array

_TABLE_AT = 64


def packed_consts(zero: int, lo: int, hi: int, table: Array | None) -> npt.NDArray[np.uint8]:
    """Return the constants of vector.pack64: zero, lo, hi, and the table by the byte of its index."""
    image = np.zeros(_TABLE_AT + 256, dtype=np.uint8)
    image[:24] = np.array([zero, lo, hi], dtype=np.int64).view(np.uint8)
    if table is not None:
        image[_TABLE_AT:] = np.roll(table.reshape(-1).view(np.uint8), -128)
    return image
