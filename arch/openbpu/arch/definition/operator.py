"""What every operator of the BPU has. The operators themselves: `openbpu.arch.operators`, by family.

Tensors are row-major; spatial operators see NHWC. `inputs`, `outputs` and every field that ends in `_id` are
tensor ids of the program; an absent optional tensor is -1. An operator may see a tensor under another shape
of the same size (its geometry fields say which): row-major data does not move for that.

Common words: `rhe` rounds half to even; `sat32` clamps to int32; `clamp` means clamp(…, lo, hi);
`table[…]` is an optional 256-entry look-up after the clamp (`table_id`, indexed by y + 128, only for int8
results before the look-up); results are stored in the dtype of the output tensor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from openbpu.arch.definition.checked import Checked

Ints = tuple[int, ...]

MANY = 1 << 16
"""At most so many inputs of an operator that takes any number of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """What every operator has: tensor ids, and `node` = index into the program's debug map (-1: none)."""

    INPUTS: ClassVar[tuple[int, int]] = (1, 1)  # fewest and most
    ANY_DTYPE: ClassVar[bool] = False  # layout changes and the ends of a model, which may see floats
    LOOKS_UP: ClassVar[bool] = False  # it is nothing but a look-up: the lanes of the tables set its time

    inputs: Ints
    outputs: Ints
    node: int = -1

    def constants(self) -> Ints:
        """The ids of the constant tensors this operator reads beside its inputs."""
        return tuple(
            v
            for name in self.__dataclass_fields__
            if name.endswith("_id") and (v := getattr(self, name)) >= 0
        )

    def copied(self) -> Iterable[int]:
        """The inputs whose bits it copies."""
        return ()

    def check(self, program: Checked) -> None:
        """Raise BadRecordError when its geometry does not fit its tensors: every element it names exists.

        Ids are in range, and what is true of every operator has been checked (`hbm.check_operators`).
        """
        raise NotImplementedError
