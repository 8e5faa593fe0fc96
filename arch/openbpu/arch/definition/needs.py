"""What operators demand of sizes, walks and constants, each refused in the words of a damaged file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from openbpu.arch.definition.checked import Checked
from openbpu.arch.definition.operator import Operator
from openbpu.arch.dtypes import DType

INTEGERS = (DType.INT8, DType.INT16, DType.INT32)
NARROW = (DType.INT8, DType.INT16)
MAX_COUNT = 1 << 32  # of any one geometry field: products of a few of them stay exact and small


class BadRecordError(ValueError):
    """Something in a file does not fit; the message names it and its value."""


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


def need_same_size(program: Checked, op: Operator) -> None:
    """Input and output must have as many elements as each other."""
    need_sizes(program, op, size_of(program, op.outputs[0]))


def _reach(shape: Sequence[int], strides: Sequence[int], offset: int = 0) -> tuple[int, int]:
    """Return the lowest and the highest element that a strided walk over `shape` (no 0 in it) touches."""
    steps = [(d - 1) * s for d, s in zip(shape, strides, strict=True)]
    return offset + sum(s for s in steps if s < 0), offset + sum(s for s in steps if s > 0)


def need_walk(
    program: Checked, tensor_id: int, shape: Sequence[int], strides: Sequence[int], offset: int = 0
) -> None:
    """A walk with these strides, in elements, must stay inside a tensor."""
    need_geometry("strides", strides, len(shape), least=-MAX_COUNT)
    if 0 in shape:
        return
    low, high = _reach(shape, strides, offset)
    name = program.tensors[tensor_id].name
    need(
        low >= 0 and high < size_of(program, tensor_id),
        f"strides of '{name}' (they leave it)",
        tuple(strides),
    )


def need_windows(
    inside: Sequence[int],
    y_shape: Sequence[int],
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    reach: Sequence[int],
) -> None:
    """The last window along height and width must end inside the padded input.

    inside: sizes of the input · y_shape: NHWC · pads: top, left, bottom, right · reach: from a window's first
    position to its last one, or 0 where the window may hang over the end.
    """
    need_geometry("pads", pads, 4, least=-MAX_COUNT)
    for axis in range(2):
        last = (y_shape[1 + axis] - 1) * strides[axis] - pads[axis] + reach[axis]
        where = "y_shape (the last window lies outside the padding)"
        need(last < inside[axis] + pads[axis + 2], where, y_shape)
