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
from openbpu.quantization.onnx.classes import data_inputs
from openbpu.quantization.onnx.extents import Extent
from openbpu.quantization.onnx.limits import FREE, Useful
from openbpu.quantization.onnx.masks import Masks
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.plan import Plan

BESIDE = frozenset({"Concat", "Pad", "ScatterElements", "ScatterND", "Where"})
"""Operators whose result holds the values of each operand."""

ADDED = frozenset({"Add", "Max", "Mean", "Min", "Sub"})
"""Operators whose result is made of all operands."""

CUTS = frozenset({"Gather", "Slice", "Split"})
"""Movement that takes a part, with the scale of the whole."""

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


def watched(net: Net, plan: Plan) -> list[str]:
    """Return the tensors without a scale of their own whose range tells whether they are swallowed."""
    found: dict[str, None] = {}
    for node in net.nodes:
        if not any(name in plan.pairs for name in node.output):
            continue
        names = _operands(node.op_type, list(node.input)) if node.op_type in BESIDE else ()
        names = list(node.output) if node.op_type in CUTS else names
        found.update((name, None) for name in names if net.is_live(name))
    return list(found)


def _operands(op: str, inputs: list[str]) -> list[str]:
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
) -> list[Swallowed]:
    """Return every tensor that a scale of the plan swallows, in the order of the graph."""
    return [
        found
        for found in _judged(net, plan, tops, extents, masks, within)
        if 0 < found.steps < FEW[found.how]
    ]


def _judged(
    net: Net,
    plan: Plan,
    tops: Mapping[str, float],
    extents: Mapping[str, Extent],
    masks: Masks,
    within: Useful,
) -> Iterator[Swallowed]:
    def largest(name: str) -> float:
        array = net.consts.get(name)
        if array is not None:
            real = array.dtype == np.float32 and array.size > 1
            return float(np.abs(np.clip(array, *within.limits.get(name, FREE))).max()) if real else 0.0
        source = plan.pairs[name].source if name in plan.pairs else ""
        return min(extents[name].top, tops.get(source, np.inf)) if name in extents else tops.get(source, 0.0)

    chain, readers = masks.chain, net.consumers()
    for index, node in enumerate(net.nodes):
        how = "beside" if node.op_type in BESIDE else "added" if node.op_type in ADDED else ""
        if node.op_type in CUTS:
            pairs = [(name, name) for name in node.output if name in plan.pairs]
            how = "cut"
        elif how:
            operands = _operands(node.op_type, list(node.input)) if how == "beside" else data_inputs(node)
            if how == "added":  # a small bias was meant to be small
                operands = [name for name in operands if name not in net.consts]
            whole = _rounded(net, plan, index, readers)
            pairs = [(name, whole) for name in operands] if whole else []
        else:
            continue
        for name, whole in pairs:
            pair = plan.pairs[whole]
            if chain.isdisjoint((name, whole)) and tops.get(pair.source, 0.0) > 0:
                step = float(numerics.observed_scale(tops[pair.source], pair.dtype))
                top, origin = (
                    largest(name),
                    name if how == "cut" or name not in plan.pairs else plan.pairs[name].source,
                )
                yield Swallowed(index, name, origin, whole, how, top, top / step, pair.dtype)


def _rounded(net: Net, plan: Plan, index: int, readers: Mapping[str, list[int]]) -> str:
    """Return the tensor with a pair that node `index` makes, behind a clamp if that is fused; "" for none."""
    name = str(net.nodes[index].output[0])
    while name not in plan.pairs:
        users = readers.get(name, [])
        if len(users) != 1 or net.nodes[users[0]].op_type not in {"Relu", "Clip"}:
            return ""
        name = str(net.nodes[users[0]].output[0])
    return name
