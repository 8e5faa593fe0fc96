"""What a tensor of a program is, and where its bytes live."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from openbpu.arch.dtypes import DType


class Space(Enum):
    """Where the bytes of a tensor live between the operators that use it."""

    CONST = "const"  # in the constants of the file, loaded to DDR at the same offset
    DDR = "ddr"  # in the dynamic memory of the program
    CHIP = "chip"  # only in on-chip memory, while its segment runs
    L2M = "l2m"  # in the memory that all cores share, between on-chip memory and DDR
    VIEW = "view"  # shares the bytes of another tensor (a reshape)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A dense row-major tensor.

    `address` is a byte offset in its space; for a VIEW it is the id of the other tensor. `scale` (one entry,
    or one per element of `axis`) and `zero_point` say what the integers mean; () when nothing.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    space: Space
    address: int
    scale: tuple[float, ...] = ()
    zero_point: int = 0
    axis: int = -1

    @property
    def is_shapeless(self) -> bool:
        """Whether its shape may be known only when it is computed: it never leaves ONNX Runtime."""
        return self.space is Space.DDR and self.address == -1 and self.shape == ()

    @property
    def nbytes(self) -> int:
        """Bytes of the dense data."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.nbytes
