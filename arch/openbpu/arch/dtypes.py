"""The element types a BPU tensor can have."""

from __future__ import annotations

from enum import Enum
from functools import cache, cached_property

import numpy as np


class DType(Enum):
    """Element type of a tensor; the value is the name that `.hbm` files and tables show."""

    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    BOOL8 = "bool8"
    FLOAT32 = "float32"
    # Types that only cross CPU segments: the BPU computes none of them, but writes indices as what is wanted.
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"
    INT64 = "int64"
    FLOAT16 = "float16"
    FLOAT64 = "float64"
    OTHER = "other"  # strings, sequences, …: what only ONNX Runtime can hold

    @cached_property
    def numpy(self) -> np.dtype[np.generic]:
        """The NumPy dtype of one element."""
        if self is DType.OTHER:
            return np.dtype(object)
        return np.dtype("bool" if self is DType.BOOL8 else self.value)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of one element."""
        return self.numpy.itemsize

    @property
    def is_quantized(self) -> bool:
        """Whether an activation of this type can carry a scale on the BPU."""
        return self in (DType.INT8, DType.INT16, DType.INT32)

    @property
    def qmin(self) -> int:
        """Smallest integer of this type."""
        return _span(self.value)[0]

    @property
    def qmax(self) -> int:
        """Largest integer of this type."""
        return _span(self.value)[1]

    @classmethod
    def of(cls, dtype: np.dtype[np.generic] | type[np.generic]) -> DType:
        """Return the DType of a NumPy dtype; raises ValueError for one that no tensor can have."""
        kind = np.dtype(dtype)
        return cls.BOOL8 if kind == np.bool_ else cls(kind.name)


@cache
def _span(name: str) -> tuple[int, int]:
    """Smallest and largest integer of a NumPy type."""
    found = np.iinfo(name)
    return int(found.min), int(found.max)
