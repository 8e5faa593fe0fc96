"""What convolutions and matrix products share: types, and the time of an output-stationary array.

The array is fed channel block by channel block. Cycles are engine time per tile. All sizes may be ints or
int64 arrays.
"""

from __future__ import annotations

from collections.abc import Iterable

from openbpu.arch.definition.checked import Checked
from openbpu.arch.definition.integers import Count, ceil_div, choose, largest
from openbpu.arch.definition.needs import NARROW, need
from openbpu.arch.dtypes import DType
from openbpu.arch.march import March, Tae

Sizes = tuple[Count, ...]


def passes(march: March, x: DType, w: DType) -> int:
    """Return how many cycles one step of the array takes for input type × weight type (1 for int8 × int8)."""
    wide_x = march.tae.passes_int16_int8 if x is DType.INT16 else 1
    wide_w = march.tae.passes_int8_int16 if w is DType.INT16 else 1
    return wide_x * wide_w


def tile_cycles(tae: Tae, array: Count, results: Sizes, weights: Count, raw: Count) -> Count:
    """Return issue + max(array, write-back, weight stream).

    array: steps · results: pixels and channels written · weights: bytes streamed · raw: 1 for accumulators.
    """
    pixels, channels = results
    stalled = array + ceil_div(array * tae.stall_permille, 1000)
    written = ceil_div(pixels * channels, choose(raw > 0, tae.raw_lanes, tae.requant_lanes))
    rate = choose(pixels == 1, tae.vector_bytes_per_cycle, tae.weight_bytes_per_cycle)
    streamed = ceil_div(weights, rate)
    return tae.issue_cycles + largest(stalled, written, streamed)


def need_product(program: Checked, operands: Iterable[int], result: int, *, raw: bool) -> None:
    """int8 and int16 go in; int32 comes out exactly when the accumulator itself is the result."""
    for t in (program.tensors[i] for i in operands):
        need(t.dtype in NARROW, f"dtype of '{t.name}'", t.dtype.value)
    made = program.tensors[result].dtype
    need(raw == (made is DType.INT32), f"raw with an output of {made.value}", raw)
