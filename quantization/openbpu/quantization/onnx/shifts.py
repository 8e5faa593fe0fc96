"""Zero points: where the values of an int8 tensor lie to one side of 0, all 256 codes are for that side.

    x behind a Relu, 0 … 6      symmetric: −128 … 127 for −6 … 6, a step of 6 / 127.5
                                with the zero point −128: for 0 … 6, a step of 6 / 255

The BPU computes with zero points exactly: products fold them into their bias, paddings hold them, tables and
sums take them in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.extents import Extent

WORTH = 0.9
"""A zero point that leaves more than this of the step is not worth it."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Scale (float32, of shape ()) and zero point of an int8 tensor."""

    scale: npt.NDArray[np.float32]
    zero: int


def shift_of(top: float, extent: Extent) -> Shift | None:
    """Return scale and zero point for the extent within ± `top`, and 0; None where little is gained."""
    low, high = max(min(extent.low, 0.0), -top), min(max(extent.high, 0.0), top)
    half = (high - low) / 2
    if not 0 < half <= WORTH * top:
        return None
    scale = numerics.observed_scale(half, DType.INT8)
    zero = int(np.clip(np.rint(DType.INT8.qmin - low / float(scale)), DType.INT8.qmin, DType.INT8.qmax))
    return Shift(scale, zero)


def shifts_of(
    ranges: Mapping[str, float], extents: Mapping[str, Extent], types: Mapping[str, DType]
) -> dict[str, Shift]:
    """Return the shifts of those int8 tensors in `ranges` (max|x|) that are worth it."""
    found = {
        name: shift_of(top, extents[name])
        for name, top in ranges.items()
        if types[name] is DType.INT8 and top > 0 and extents[name].seen
    }
    return {name: shift for name, shift in found.items() if shift is not None}
