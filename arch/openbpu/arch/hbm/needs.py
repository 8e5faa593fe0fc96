"""What the checks of operators demand of sizes and constants, each refused in the words of a damaged file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from openbpu.arch.dtypes import DType
from openbpu.arch.hbm.checked import Checked
from openbpu.arch.hbm.codec import BadRecordError
from openbpu.arch.program import Operator

MAX_COUNT = 1 << 32  # of any one geometry field: products of a few of them stay exact and small


def need(legal: bool, what: str, actual: object) -> None:
    """Raise BadRecordError unless `legal`."""
    if not legal:
        raise BadRecordError(f"{what} cannot be {actual}")


def size_of(program: Checked, tensor_id: int) -> int:
    """Return the number of elements; an absent tensor (a negative id) has none and is refused."""
    need(tensor_id >= 0, "tensor", "absent")
    return math.prod(program.tensors[tensor_id].shape)


def need_sizes(program: Checked, op: Operator, *wanted: int) -> None:
    """Inputs, then outputs, must have these numbers of elements."""
    for i, elements in zip((*op.inputs, *op.outputs), wanted, strict=False):
        actual = size_of(program, i)
        need(
            actual == elements, f"size of '{program.tensors[i].name}' (its geometry says {elements})", actual
        )


def need_geometry(name: str, values: Sequence[int], rank: int, least: int = 1) -> None:
    """Sizes must be `rank` numbers from `least` on."""
    need(len(values) == rank and all(least <= v <= MAX_COUNT for v in values), name, tuple(values))


def constant_of(program: Checked, tensor_id: int, dtype: DType, *shapes: tuple[int, ...]) -> Any:
    """Return a constant's data; its dtype and its shape (one of `shapes`) must be as given."""
    need(tensor_id >= 0, "constant", "absent")
    t = program.tensors[tensor_id]
    need(t.dtype is dtype, f"dtype of '{t.name}'", t.dtype.value)
    need(t.shape in shapes, f"shape of '{t.name}'", t.shape)
    return program.constant(tensor_id)


def need_within(program: Checked, name: str, tensor_id: int, columns: range, lo: int, hi: int) -> None:
    """Every number in these columns of a constant must lie in lo..hi."""
    found = program.extremes(tensor_id, columns.start, columns.stop)
    need(found is None or (found[0] >= lo and found[1] <= hi), name, f"outside {lo}..{hi}")
