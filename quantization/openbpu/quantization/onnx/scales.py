"""The scale of every tensor, constant and accumulator of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch.arrays import Array, Float32
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import QuantizationError, must
from openbpu.quantization.onnx.affine import channel_vector
from openbpu.quantization.onnx.blocks import magnitudes
from openbpu.quantization.onnx.limits import Limits
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.plan import Plan, channel_axis
from openbpu.quantization.onnx.shifts import NO_SHIFTS, Shift, Shifts
from openbpu.quantization.ranges import usable_range

BIAS_STEPS = 2.0**30
"""The largest bias in steps of the accumulator; the other half of int32 is for the sum of products."""


@dataclass(frozen=True, slots=True)
class Scales:
    """Scales (float32) by what was observed: `ranges` maps every source of the plan to max|x|.

    `limits`: how far the values of constants matter that lead into a Softmax. `shifts`: the sources that may
    have a zero point where they are rounded to int8.
    """

    net: Net
    plan: Plan
    ranges: Mapping[str, float]
    weight: DType
    limits: Mapping[str, Limits] = field(default_factory=dict)
    shifts: Shifts = NO_SHIFTS

    def tensor(self, name: str, dtype: DType) -> Float32:
        """Return the scale of a tensor that has a pair, for `dtype`."""
        shift = self._shift(name, dtype)
        if shift is not None:
            return shift.scale
        return numerics.observed_scale(usable_range(self.ranges[self.plan.pairs[name].source]), dtype)

    def zero(self, name: str, dtype: DType) -> int:
        """Return the zero point of a tensor that has a pair, for `dtype`."""
        shift = self._shift(name, dtype)
        return 0 if shift is None else shift.zero

    def _shift(self, name: str, dtype: DType) -> Shift | None:
        source = self.plan.pairs[name].source
        return self.shifts.of(source, self.ranges[source], dtype)

    def constant(self, name: str, axis: int | None, dtype: DType) -> Float32:
        """Return the scale of a constant: of shape () or one per entry of `axis`."""
        array = self.finite(name)
        widest = magnitudes(array, axis)
        if array.size == widest.size:  # a scale per value: code 127 is exact, 127.5 would lose 0.4 %
            return (usable_range(widest) / dtype.qmax).astype(np.float32)
        return numerics.observed_scale(usable_range(widest), dtype)

    def weights(self, mac: int, position: int) -> Float32:
        """Return the scale of constant weights, widened where the bias would not fit int32 otherwise.

        That happens to channels whose weights have all but vanished beside their bias.
        """
        axis = self.plan.weights[mac, position]
        scale = self.constant(self.net.nodes[mac].input[position], axis, self.weight)
        node, place = next((slot for slot, of in self.plan.biases.items() if of == mac), (-1, -1))
        other = self.operand(mac, 0) if position == 1 else None
        if node < 0 or other is None:
            return scale
        bias = self.bias(self.net.nodes[node].input[place], mac)
        if bias is None:
            return scale
        needed = np.abs(bias) / (float(other) * BIAS_STEPS)
        widest = needed.reshape(-1, scale.size).max(axis=0) if scale.ndim else needed.max(initial=0)
        widened: Float32 = np.maximum(scale, widest.astype(np.float32))
        return widened

    def operand(self, mac: int, position: int) -> Float32 | None:
        """Return the scale of operand 0 or 1 of a MAC; None when it is not quantized."""
        name, slot = self.net.nodes[mac].input[position], (mac, position)
        if slot in self.plan.weights:
            return self.weights(mac, position)
        if name in self.plan.given.quantized:
            return self._given(mac, position)
        if name not in self.plan.pairs:
            return None
        return self.tensor(name, self.plan.recast.get(slot, self.plan.pairs[name].dtype))

    def _given(self, mac: int, position: int) -> Float32 | None:
        """Return the scale that the model itself gives an operand; None when it is none of a MAC."""
        node = self.net.nodes[mac]
        scale, axis = self.plan.given.scales.get(node.input[position], (None, None))
        if scale is None or scale.dtype != np.float32:
            return None
        if scale.size == 1:
            return scale.reshape(())
        rank = len(self.net.shapes.get(node.input[position], ()))
        return scale if position == 1 and axis == channel_axis(node, rank) else None

    def accumulator(self, mac: int, channels: int) -> Float32 | None:
        """Return the step of the accumulator, of shape () or (channels,); None when an operand is float."""
        a, b = self.operand(mac, 0), self.operand(mac, 1)
        if a is None or b is None:
            return None
        step = a * b
        return np.tile(step, channels // step.size) if step.ndim else step

    def bias(self, name: str, mac: int) -> npt.NDArray[np.float64] | None:
        """Return a constant bias as one value per output channel; None when it is a matrix."""
        array = np.atleast_1d(self.finite(name))
        weight = self.net.consts.get(self.net.nodes[mac].input[1])
        channels = array.size
        if array.size == 1 and weight is not None and self.plan.weights.get((mac, 1)) is not None:
            channels = weight.shape[self.plan.weights[mac, 1] or 0]
        return channel_vector(array, array.ndim, array.ndim - 1, channels)

    def finite(self, name: str) -> Array:
        """Return a constant within its limits; raises QuantizationError when it holds NaN or infinity."""
        array = self.net.consts[name]
        if name in self.limits:
            return np.clip(array, *self.limits[name])
        if np.isfinite(array).all():
            return array
        fix = "repair the model: training may have diverged"
        raise QuantizationError(must(f"constant '{name}'", "every value", "finite", "NaN or infinite", fix))
