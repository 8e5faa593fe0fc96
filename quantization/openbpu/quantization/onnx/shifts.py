"""Zero points: where the values of an int8 tensor lie to one side of 0, all 256 codes are for that side.

    x behind a Relu, 0 … 6      symmetric: −128 … 127 for −6 … 6, a step of 6 / 127.5
                                with the zero point −128: for 0 … 6, a step of 6 / 255

The BPU computes with zero points exactly: products fold them into their bias, paddings hold them, tables and
sums take them in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch.arrays import Float64
from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.extents import Extent
from openbpu.quantization.onnx.masks import Masks
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.plan import Plan
from openbpu.quantization.ranges import SMALLEST_RANGE, Halves

WORTH = 0.9
"""A zero point that leaves more than this of the step is not worth it."""

_CODES = 255
_SURELY = 1e-6

MANY = 4096
"""Of fewer values than these the side with the smaller ones is not known well: it gets ROOM times as much."""

ROOM = 1.5


@dataclass(frozen=True, slots=True)
class Shift:
    """Scale (float32, of shape ()) and zero point of an int8 tensor."""

    scale: npt.NDArray[np.float32]
    zero: int


@dataclass(frozen=True, slots=True)
class Shifts:
    """The sources of a plan that may have a zero point, with what was seen of them; none by default."""

    extents: Mapping[str, Extent] = field(default_factory=dict)

    def of(self, source: str, top: float, dtype: DType = DType.INT8) -> Shift | None:
        """Return the shift of a tensor that is rounded to `dtype` within ± `top`; None where it has none."""
        if dtype is not DType.INT8 or source not in self.extents:
            return None
        return shift_of(top, self.extents[source])

    def halves(self, source: str, dtype: DType = DType.INT8) -> Halves | None:
        """Return half the width that 255 steps stand for, for each range; None where that is the range."""
        if dtype is not DType.INT8 or source not in self.extents:
            return None
        return lambda tops: _half(tops, self.extents[source])


def shifts_of(
    net: Net, plan: Plan, masks: Masks, seen: Mapping[str, Extent], *, inputs: bool = False
) -> Shifts:
    """Return what may have a zero point: all that is rounded to int8, in one of its pairs at least.

    Steps that the model gives stay, and what leads into a masked Softmax ends at its floor anyway. Without
    `inputs`, those keep the zero point 0: who writes codes into one may have its scale alone in mind.
    """
    narrow = {pair.source for pair in plan.pairs.values() if pair.dtype is DType.INT8}
    for (index, position), dtype in plan.recast.items():
        if dtype is DType.INT8:
            narrow.add(plan.pairs[net.nodes[index].input[position]].source)
    fixed = {*(() if inputs else net.inputs), *plan.steps, *masks.chain, *masks.upstream}
    return Shifts(_joined(net, plan, {name: seen[name] for name in narrow - fixed if seen[name].seen}))


def _joined(net: Net, plan: Plan, extents: dict[str, Extent]) -> dict[str, Extent]:
    """Give an operand the extent of its Concat where the larger sides are the same: nothing is rounded then.

    Without zero points the two have one scale by themselves.
    """
    for node in reversed(net.nodes):
        names = (*node.input, *node.output) if node.op_type == "Concat" else ()
        *parts, whole = (plan.pairs[n].source if n in plan.pairs else "" for n in names) if names else ("",)
        for part in parts:
            if part in extents and whole in extents and _same_side(extents[part], extents[whole]):
                extents[part] = extents[whole]
    return extents


def _same_side(part: Extent, whole: Extent) -> bool:
    side = "high" if whole.high >= -whole.low else "low"
    return part.top == whole.top and bool(getattr(part, side) == getattr(whole, side))


def shift_of(top: float, extent: Extent) -> Shift | None:
    """Return scale and zero point for the extent within ± `top`, and 0; None where little is gained.

    The larger side ends at a code, and the other one has as many whole codes as it needs.
    """
    half = float(_half(top, extent))
    if not SMALLEST_RANGE <= half < top:
        return None
    steps = _CODES * top / (2 * half)
    left = round(_CODES - steps)
    zero = DType.INT8.qmin + left if extent.high >= -extent.low else DType.INT8.qmax - left
    return Shift(numerics.observed_scale(half, DType.INT8), zero)


def _half(tops: npt.ArrayLike, extent: Extent) -> Float64:
    """Return half the width of what counts of the extent within each range: `tops` where little is gained."""
    most = np.asarray(tops, dtype=np.float64)
    if extent.low == extent.high == 0:  # which side its values lie on is not known
        return most
    small = max(min(extent.high, -extent.low), 0.0) * (ROOM if extent.count < MANY else 1.0)
    share = np.minimum(np.divide(small, most, out=np.ones_like(most), where=most > 0), 1.0)
    left = np.ceil(_CODES * share / (1 + share) - _SURELY)
    half = most * _CODES / (2 * (_CODES - left))
    return np.where(half <= WORTH * most, half, most)


NO_SHIFTS = Shifts()
