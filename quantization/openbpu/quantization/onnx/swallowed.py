"""Tensors that one scale swallows: their own range is a few of its steps.

    boxes in 0 … 320 ──┐
    scores in 0 … 1  ──┴ Concat → a step of int8 is 2.5: every score is 0

Where values of several tensors stand side by side (Concat, Scatter, Where, Pad, the parts that a Slice cuts
out), each needs steps of its own. What is added only has to be more than the rounding of the sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.onnx_ops import CUTS
from openbpu.quantization.onnx.classes import data_inputs
from openbpu.quantization.onnx.extents import Extent
from openbpu.quantization.onnx.limits import FREE, Useful
from openbpu.quantization.onnx.masks import Masks
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.plan import Plan
from openbpu.quantization.onnx.shifts import NO_SHIFTS, Shifts

BESIDE = frozenset({"Concat", "Pad", "ScatterElements", "ScatterND", "Where"})
"""Operators whose result holds the values of each operand."""

ADDED = frozenset({"Add", "Max", "Mean", "Min", "Sub"})
"""Operators whose result is made of all operands."""

FEW = {"beside": 16.0, "added": 4.0, "cut": 16.0}
"""A tensor is swallowed when the largest magnitude it holds is fewer steps than this."""


@dataclass(frozen=True, slots=True)
class Swallowed:
    """`name` is `steps` steps of the scale that `whole` has, at node `node`; `how`: a key of FEW.

    `origin`: the tensor that `name` is moved from, itself if it is not.
    """

    node: int
    name: str
    origin: str
    whole: str
    how: str
    top: float
    steps: float
    dtype: DType

    @property
    def told(self) -> str:
        """The tensor and its range, for a sentence."""
        moved = f" (moved from '{self.origin}')" if self.origin != self.name else ""
        return f"'{self.name}'{moved}, whose range {_number(self.top)} is {_number(self.steps)} steps"


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def watched(net: Net, plan: Plan) -> list[str]:
    """Return the tensors without a scale of their own whose range tells whether they are swallowed."""
    found: dict[str, None] = {}
    for node in net.nodes:
        if node.op_type in ADDED:  # also a sum that the accumulator of a product takes in
            found.update((name, None) for name in data_inputs(node) if net.is_live(name))
            continue
        if not any(name in plan.pairs for name in node.output):
            continue
        names = values_beside(node.op_type, list(node.input)) if node.op_type in BESIDE else ()
        names = list(node.output) if node.op_type in CUTS else names
        found.update((name, None) for name in names if net.is_live(name))
    return list(found)


def values_beside(op: str, inputs: list[str]) -> list[str]:
    """Return the operands whose values the result holds."""
    positions = {"Where": (1, 2), "Pad": (0,), "ScatterND": (0, 2), "ScatterElements": (0, 2)}
    return [inputs[i] for i in positions.get(op, range(len(inputs))) if i < len(inputs) and inputs[i]]


def find_swallowed(
    net: Net,
    plan: Plan,
    tops: Mapping[str, float],
    extents: Mapping[str, Extent],
    masks: Masks,
    within: Useful,
    shifts: Shifts = NO_SHIFTS,
) -> list[Swallowed]:
    """Return every tensor that a scale of the plan swallows, in the order of the graph."""

    def largest(name: str) -> float:
        array = net.consts.get(name)
        if array is not None:
            real = array.dtype == np.float32 and array.size > 1
            return float(np.abs(np.clip(array, *within.limits.get(name, FREE))).max()) if real else 0.0
        source = plan.pairs[name].source if name in plan.pairs else ""
        return min(extents[name].top, tops.get(source, np.inf)) if name in extents else tops.get(source, 0.0)

    found = []
    for index, how, name, whole in _shared(net, plan):
        pair = plan.pairs[whole]
        if masks.chain.isdisjoint((name, whole)) and tops.get(pair.source, 0.0) > 0:
            top = largest(name)
            shift = shifts.of(pair.source, tops[pair.source], pair.dtype)
            scale = numerics.observed_scale(tops[pair.source], pair.dtype) if shift is None else shift.scale
            steps = top / float(scale)
            moved = how != "cut" and name in plan.pairs
            origin = plan.pairs[name].source if moved else name
            if 0 < steps < FEW[how]:
                found.append(Swallowed(index, name, origin, whole, how, top, steps, pair.dtype))
    return found


def _shared(net: Net, plan: Plan) -> Iterator[tuple[int, str, str, str]]:
    """Yield (node, key of FEW, tensor, the tensor whose scale it shares) for all that share one."""
    readers = net.consumers()
    for index, node in enumerate(net.nodes):
        if node.op_type in CUTS:
            yield from ((index, "cut", name, name) for name in node.output if name in plan.pairs)
            continue
        if node.op_type in BESIDE:
            how, operands = "beside", values_beside(node.op_type, list(node.input))
        elif node.op_type in ADDED:  # a small bias was meant to be small
            how, operands = "added", [name for name in data_inputs(node) if name not in net.consts]
        else:
            continue
        whole = _rounded(net, plan, index, readers)
        yield from ((index, how, name, whole) for name in operands if whole)


def _rounded(net: Net, plan: Plan, index: int, readers: Mapping[str, list[int]]) -> str:
    """Return the tensor with a pair that node `index` makes, behind a clamp if that is fused; "" for none."""
    name = str(net.nodes[index].output[0])
    while name not in plan.pairs:
        users = readers.get(name, [])
        if len(users) != 1 or net.nodes[users[0]].op_type not in {"Relu", "Clip"}:
            return ""
        name = str(net.nodes[users[0]].output[0])
    return name
