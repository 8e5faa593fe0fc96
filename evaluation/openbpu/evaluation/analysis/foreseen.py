"""What corrections would make of the error that the weights of a product add, computed on its float inputs.

    error of an output = d · x, d = codes − weights in steps       Σ error² = step² · d H dᵀ, H = mean of x xᵀ

Bias correction takes off step² · (d · mean x)², adaptive rounding chooses d, equalisation scales what
is rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from openbpu.arch.arrays import Array, Float64
from openbpu.quantization.onnx.corrections.equalise import along_input, factors, shares
from openbpu.quantization.onnx.corrections.layers import output_axis
from openbpu.quantization.onnx.corrections.patches import columns
from openbpu.quantization.onnx.corrections.rounding import round_rows, row_errors

ROWS = 2048
"""Places of the output that a figure is made of."""
LONGEST = 1152
"""Products that sum up more values get no figure: H would take long."""


@dataclass(frozen=True, slots=True)
class Product:
    """A product and its quantized weights.

    exact: the float weights, in steps · codes: theirs, zero points off · scale: one, or one per channel
    """

    node: NodeProto
    exact: Float64
    codes: Float64
    scale: Float64
    limits: tuple[int, int]


def shares_left(product: Product, inputs: Sequence[Array]) -> Mapping[str, float]:
    """Return by option the share of the weights' squared error that it leaves; {} where nothing tells."""
    axis = output_axis(product.node, product.codes.ndim)
    rows = columns(product.node, inputs, product.codes.shape, ROWS) if axis is not None else None
    if axis is None or rows is None or not 0 < rows.shape[2] <= LONGEST or not rows.shape[1]:
        return {}
    wide = rows.astype(np.float64)
    seen = _Seen(product, axis, np.matmul(wide.transpose(0, 2, 1), wide) / wide.shape[1], wide.mean(axis=1))
    now = seen.error(product.codes)
    if not np.isfinite(now) or now <= 0:
        return {}
    ways: dict[str, Callable[[], float]] = {
        "--equalisation": lambda: seen.equalised(_peaks(product, inputs)),
        "--adaptive-rounding": seen.rounded,
        "--bias-correction": lambda: now - seen.mean_error(product.codes),
    }
    return {option: way() / now for option, way in ways.items()}


def _peaks(product: Product, inputs: Sequence[Array]) -> Float64:
    """Return the largest magnitude of every channel that the product reads."""
    axis = 1 if product.node.op_type.startswith("Conv") else -1
    tops = [
        np.abs(np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])).max(axis=0, initial=0) for x in inputs
    ]
    found: Float64 = np.max(tops, axis=0).astype(np.float64)
    return found


@dataclass(frozen=True, slots=True)
class _Seen:
    """A product beside H (G, K, K) and the means (G, K) of what it sums up, by group."""

    of: Product
    axis: int
    second: Float64
    means: Float64

    def error(self, codes: Float64) -> float:
        """Return the squared error of an output, summed over channels."""
        errors = row_errors(self._rows(codes - self.of.exact), self.second)
        return float((errors * self._squares).sum())

    def mean_error(self, codes: Float64) -> float:
        """Return what of it a constant per channel takes off."""
        shifts = np.einsum("gok,gk->go", self._rows(codes - self.of.exact), self.means)
        return float((shifts * shifts * self._squares).sum())

    def rounded(self) -> float:
        """Return the error of codes chosen for the product."""
        exact, nearest = self._rows(self.of.exact), self._rows(self.of.codes)
        codes = round_rows(exact, nearest, self.second, self.of.limits)
        return float((row_errors(codes - exact, self.second) * self._squares).sum())

    def equalised(self, peaks: Float64) -> float:
        """Return the error where channels are scaled first; `peaks`: their largest magnitudes."""
        node = self.of.node
        weights = self.of.exact * self._along(self.of.scale)
        share = shares(node, weights, len(peaks))
        if share is None:
            return np.inf  # depthwise: a row is one channel, and its scale is its own
        by = along_input(node, weights, factors(peaks, share))
        scaled = self._rows(weights * by)
        step = np.maximum(np.abs(scaled).max(axis=2, keepdims=True) / self.of.limits[1], np.finfo(float).tiny)
        lost = np.rint(scaled / step) * step - scaled
        return float(row_errors(lost / self._rows(np.broadcast_to(by, weights.shape)), self.second).sum())

    @property
    def _squares(self) -> Float64:
        scale = np.broadcast_to(self.of.scale.reshape(-1), self.of.codes.shape[self.axis])
        return np.asarray(scale.reshape(len(self.second), -1) ** 2, dtype=np.float64)

    def _rows(self, weight: Float64) -> Float64:
        """Return weights as (groups, outputs of a group, what is summed up)."""
        rows = np.moveaxis(weight, self.axis, 0)
        groups = len(self.second)
        return np.asarray(rows.reshape(groups, len(rows) // groups, -1), dtype=np.float64)

    def _along(self, scale: Float64) -> Float64:
        shape = [-1 if i == self.axis else 1 for i in range(self.of.codes.ndim)]
        return scale.reshape(shape) if scale.size > 1 else scale.reshape(())
