"""How far the values of a tensor matter that leads into a Softmax, and which ranges follow.

A weight is exp(x − largest of the row) / sum. What lies so far below the largest of its row that the weight
is code 0 may lie anywhere below: for quantization it is as if it were at the *floor*,

    floor = least of the rows' largest values − depth
    depth = ln(codes) + 1 + max(0, ln(row length) − 2)

where codes is 255 for a result of int8 and 65,535 for int16: half a step of the result is 1 / codes, one more
is for what was not calibrated, and the last term keeps the sum of a long masked row below a hundredth. Back
from the Softmax it is a floor of every operand: of Add(a, b), a's is that of the sum less the largest b. So a
mask of −1e9 costs a range no more than depth; biases of the position keep their values as far as they count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from openbpu.arch.arrays import Array
from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.extents import Depths, Extent
from openbpu.quantization.onnx.masks import SURE, Masks, Row, clipped, factor_of, find_masks, steps_back
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.nodes import reads

Limits = tuple[float, float]
"""Values beyond these two count as if they were these."""

FREE: Limits = (-np.inf, np.inf)

Ends = tuple[bool, bool]
"""Whether something lies below the lower limit, and above the upper one."""

_GAP = 16.0
"""A fill lies at least so far below the largest value, or it masks nothing."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What calibration saw, by tensor. `largest`: the largest value of each row that a Softmax reads.

    `values`: all values that a LogSoftmax reads and makes. `lengths`: of the rows.
    """

    extents: Mapping[str, Extent]
    largest: Mapping[str, Depths]
    values: Mapping[str, Depths]
    lengths: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Useful:
    """Limits by tensor and constant; `masked` are those of them whose values may lie beyond, at which end."""

    limits: Mapping[str, Limits]
    masked: Mapping[str, Ends]

    def top(self, name: str, extent: Extent) -> float:
        """Return the largest magnitude of a tensor that counts."""
        low, high = self.limits.get(name, FREE)
        return max(min(extent.high, high), -max(extent.low, low), self.least(name))

    def least(self, name: str) -> float:
        """Return the range that `name` must have so that what is masked stays masked."""
        ends = zip(self.limits.get(name, FREE), self.masked.get(name, (False, False)), strict=True)
        return max((abs(float(end)) for end, beyond in ends if beyond), default=0.0)


def nominal(net: Net) -> dict[str, Limits]:
    """Return limits of the constants in front of a Softmax where nothing is calibrated."""
    return {name: (-_GAP, _GAP) for name in find_masks(net).chain if name in net.consts}


def ranges_of(
    within: Useful, seen: Seen, masks: Masks, types: Mapping[str, DType]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the largest magnitude that counts of every tensor in `types`, and the least range it may have.

    Whole numbers that a mask is computed from keep their values exactly, so that (1 − mask) · −1e9 is 0 where
    the mask is 1: their step is a power of two.
    """
    tops, least = {}, {}
    for name, dtype in types.items():
        extent = seen.extents[name]
        tops[name], least[name] = within.top(name, extent), within.least(name)
        if name in masks.upstream and extent.whole and 0 < extent.top <= dtype.qmax:
            step = 2.0 ** math.ceil(math.log2(extent.top / dtype.qmax))
            tops[name] = least[name] = step * (dtype.qmax - dtype.qmin) / 2
    return tops, least


def useful(net: Net, masks: Masks, types: Mapping[str, DType], seen: Seen) -> Useful:
    """Return how far the tensors of `masks` matter; `types` are those of the rows' results."""
    limits: dict[str, Limits] = dict.fromkeys(net.outputs, FREE)
    fixed: dict[str, Limits] = {}
    roots = {row.node: row for row in masks.rows if row.source in seen.largest}
    chain = masks.chain
    for index in reversed(range(len(net.nodes))):
        node = net.nodes[index]
        if index in roots:
            low, below = _floor(net, roots[index], types.get(node.output[0], DType.INT16), seen)
            found = [(node.input[0], (low, np.inf))]
            if below is not None:
                fixed[node.output[0]] = (below, np.inf)
        else:
            found = list(_operand_limits(node, net, limits, seen, chain))
        for name, (low, high) in found:
            old = limits.get(name)
            limits[name] = (low, high) if old is None else (min(old[0], low), max(old[1], high))
    kept = {name: limit for name, limit in limits.items() if limit != FREE and name in chain} | fixed
    return Useful(kept, {**_masked(net, masks, kept, seen), **dict.fromkeys(fixed, (True, False))})


def _floor(net: Net, row: Row, dtype: DType, seen: Seen) -> tuple[float, float | None]:
    """Return the floor of what a row reads and, for a LogSoftmax, that of its result."""
    rows = seen.largest[row.source]
    top = seen.extents[row.source].high
    level = _mask_level(net, row, seen.extents, top)
    least = rows.above(level)
    if row.log and not np.isfinite(level):
        return -np.inf, None
    depth = math.log(2 * dtype.qmax + 1) + 1 + max(0.0, math.log(max(seen.lengths[row.source], 1)) - 2)
    floor = (least if np.isfinite(least) else 0.0) - depth
    if not row.log:
        return floor, None
    below = seen.values[row.out].above(level - top)
    return min(floor, seen.values[row.source].above(level)), min(-depth, below)


def _mask_level(net: Net, row: Row, extents: Mapping[str, Extent], top: float) -> float:
    """Return the value below which a whole row is masked: half-way between the fill and the largest value.

    −∞ where nothing is sure to be a mask.
    """
    fills = []
    for name, sign in row.fills:
        extent = extents[name] if name in extents else Extent()
        lowest = extent.low if sign > 0 else -extent.high
        array = net.consts.get(name)
        lone = array is not None and len(np.unique(array)) <= 2
        if lowest <= -SURE or (lone and lowest <= min(top, 0.0) - _GAP):
            fills.append(lowest)
    return (max(fills) + top) / 2 if fills else -np.inf


def _operand_limits(
    node: NodeProto, net: Net, limits: Mapping[str, Limits], seen: Seen, chain: frozenset[str]
) -> Iterator[tuple[str, Limits]]:
    """Yield the limits that a node's operands have by those of its results."""
    known = [limits[name] for name in node.output if name in limits]
    low, high = (min(k[0] for k in known), max(k[1] for k in known)) if known else FREE
    steps = list(steps_back(node, net)) if (low, high) != FREE and chain.issuperset(node.output) else []
    for position, (name, sign) in enumerate(steps):
        others = [(o, s) for i, (o, s) in enumerate(steps) if i != position]
        yield name, _operand_limit(node, net, (low, high), sign, others, seen.extents)
    stepped = {name for name, _ in steps}
    yield from ((name, FREE) for name in reads(node) if name not in stepped)


def _operand_limit(
    node: NodeProto,
    net: Net,
    limit: Limits,
    sign: int,
    others: list[tuple[str, int]],
    extents: Mapping[str, Extent],
) -> Limits:
    low, high = limit
    if node.op_type in {"Add", "Sub", "Sum"}:
        for name, turn in others:
            extent = extents.get(name)
            if extent is None or not extent.seen:
                return FREE
            low -= extent.high if turn > 0 else -extent.low
            high -= extent.low if turn > 0 else -extent.high
    if node.op_type in {"Max", "Min"}:  # the others stand in front of what is lower, or higher
        for name, _ in others:
            extent = extents.get(name, Extent())
            if extent.seen and node.op_type == "Min":
                high = min(high, extent.high)
            elif extent.seen:
                low = max(low, extent.low)
    factor = factor_of(node, net)
    if factor is not None:
        sizes = np.abs(factor)
        low, high = (
            low / (sizes.min() if low < 0 else sizes.max()),
            high / (sizes.min() if high > 0 else sizes.max()),
        )
    return (low, high) if sign > 0 else (-high, -low)


def _masked(net: Net, masks: Masks, limits: Mapping[str, Limits], seen: Seen) -> dict[str, Ends]:
    """Return the tensors whose values lie beyond their limits, or will: behind a mask that was never used."""
    masked = {name: _beyond(name, limits[name], net, masks.fills, seen) for name in limits}
    for node in net.nodes:
        operands = [(masked.get(name, (False, False)), sign) for name, sign in steps_back(node, net)]
        low = any(ends[sign < 0] for ends, sign in operands)
        high = any(ends[sign > 0] for ends, sign in operands)
        for name in node.output:
            if name in limits:
                bounded = np.isfinite(limits[name])
                masked[name] = (
                    masked[name][0] or (low and bounded[0]),
                    masked[name][1] or (high and bounded[1]),
                )
    return masked


def _beyond(name: str, limit: Limits, net: Net, fills: frozenset[str], seen: Seen) -> Ends:
    extent = seen.extents.get(name, Extent())
    if not extent.seen:
        return False, False
    unused = name in fills and name not in net.consts and extent.low == extent.high == 0
    low, high = np.isfinite(limit)
    return bool(low) and (unused or extent.low < limit[0]), bool(high) and (unused or extent.high > limit[1])


def extent_of(array: Array) -> Extent:
    """Return the extent of a constant, infinities as FINITE."""
    extent = Extent()
    if not np.isnan(array).any():
        extent.add(clipped(array))
    return extent
