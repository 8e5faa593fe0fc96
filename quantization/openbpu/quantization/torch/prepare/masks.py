"""Masks in front of a softmax, found in the record of a forward pass, however they are written.

    scores ──┐                                   m → 1 − m → · −1e9 ┐
    constant ┴ add → softmax            scores → reshape ───────────┴ add → reshape → softmax
    condition ┬ where(−inf, scores) → softmax     x ┴ sub, maximum, minimum, …

Back from every softmax over what adds, chooses, scales and moves. An operand that no product leads to, and
that hides places in the example, is 0 throughout, or comes from an input, is a mask. What it is added to or
chosen in takes its range from what is not masked (`hidden.Hiding`); the mask itself and what it is computed
from have ranges of their own (`hidden.Fill`, `hidden.Whole`). All but the last are int16.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from openbpu.quantization.torch.dtype import qint16
from openbpu.quantization.torch.hidden import Fill, Hiding, Whole
from openbpu.quantization.torch.qat import Weighted
from openbpu.quantization.torch.qat.constant import GivenForm
from openbpu.quantization.torch.qat.rows import LogSoftmaxParts
from openbpu.quantization.torch.qat.spread import LogSumExpForm
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.trace import Operand, Recorder, Step

Path = tuple[tuple[Any, float], ...]
"""Modules between a step and a softmax, each with the factor by which the softmax reads its result."""

_COMBINES = frozenset({"add", "sub", "where", "maximum", "minimum", "max", "min"})
_PASSES = frozenset({"cat", "stack", "clamp", "clamp_min", "clamp_max", "quant"})
_PRODUCTS = frozenset({"matmul", "bmm", "einsum", "addmm", "baddbmm", "linear", "conv"})


def hide(model: nn.Module, recorder: Recorder) -> None:
    """Tell the modules of `model` in front of a softmax what of their results counts."""
    walk = _Walk(recorder, _behind_products(recorder.steps))
    for step in _softmaxes(model, recorder):
        for source in step.reads:
            walk.back(source, 1.0, ())
    for fill in walk.fills:
        walk.settle(fill)


def _softmaxes(model: nn.Module, recorder: Recorder) -> list[Step]:
    """Every softmax; of those made of parts, the search for the largest stands first."""
    parts = (m for m in model.modules() if isinstance(m, (LogSoftmaxParts, LogSumExpForm)))
    first = {id(m.max) for m in parts}
    found = (s for s in recorder.steps if s.module is not None)
    return [s for s in found if s.name == "softmax" or id(s.module) in first]


def _behind_products(steps: list[Step]) -> list[bool]:
    """Whether a product leads to the result of each step."""
    behind: list[bool] = []
    for step in steps:
        product = step.name in _PRODUCTS or isinstance(step.module, Weighted)
        behind.append(product or any(behind[r] for r in step.reads if r >= 0))
    return behind


class _Walk:
    """Goes back from every softmax; `chain` are the steps met, `fills` the steps that made masks."""

    def __init__(self, recorder: Recorder, behind: list[bool]) -> None:
        self.recorder, self.steps, self.behind = recorder, recorder.steps, behind
        self.chain: set[int] = set()
        self.fills: set[int] = set()

    def back(self, index: int, factor: float, path: Path) -> None:
        """Visit a step whose result a softmax reads `factor` times, through the modules of `path`,
        each with what its own result is read by.
        """
        if index < 0 or index in self.chain or not factor:
            return
        self.chain.add(index)
        step, operands = self.steps[index], self.recorder.operands.get(index, ())
        if step.module is None or step.name in _PASSES:
            for source in step.reads:
                self.back(source, factor, (*path, *_of(step, factor)))
        elif step.name in _COMBINES:
            self.combine(step, operands, factor, path)
        elif step.name in {"mul", "div", "neg"}:
            source, times = _scaled(step.name, operands)
            self.back(source, factor * times, (*path, *_of(step, factor)))

    def combine(self, step: Step, operands: tuple[Operand, ...], factor: float, path: Path) -> None:
        """Tell a sum or choice which of its operands mask; go on with the others."""
        signs = {i: -1 if step.name == "sub" and i == 1 else 1 for i in range(len(operands))}
        first = 1 if step.name == "where" else 0
        masks = {
            i: signs[i]
            for i, o in enumerate(operands)
            if i >= first and self.masks(o, factor * signs[i], operands)
        }
        if masks:
            step.module.hiding = Hiding(factor, masks)
            for module, times in path:
                module.hiding = module.hiding or Hiding(times, {})
            for module, _ in ((step.module, factor), *path):
                module.result_dtype = qint16
            if isinstance(step.module, GivenForm):
                step.module.constants = ("operand",)
        for i, operand in enumerate(operands):
            if i in masks:
                self.fills.update({operand.step} - {-1})
            elif i >= first:
                self.back(operand.step, factor * signs[i], (*path, *_of(step, factor)))

    def masks(self, operand: Operand, factor: float, operands: tuple[Operand, ...]) -> bool:
        """Whether an operand hides places."""
        hides = operand.below if factor > 0 else operand.above
        if operand.step < 0:
            return hides or (operand.varies and operand.number is None)
        if self.behind[operand.step]:
            return False
        scored = any(
            o is not operand and o.step >= 0 and (self.behind[o.step] or not o.zero) for o in operands
        )
        return hides or (operand.zero and scored)

    def settle(self, index: int) -> None:
        """Give a mask, and all that it is computed from, ranges that keep it."""
        todo, direct = [(index, True)], set[int]()
        while todo:
            at, is_mask = todo.pop()
            if at < 0 or at in direct:
                continue
            direct.add(at)
            step = self.steps[at]
            if isinstance(step.module, Quantized):
                if is_mask and set(step.users) <= self.chain | direct:
                    step.module.result_dtype, step.module.observed_as = qint16, Fill
                else:
                    step.module.observed_as = step.module.observed_as or Whole
                is_mask = False
            todo += [(source, is_mask) for source in step.reads]


def _of(step: Step, factor: float) -> Path:
    return ((step.module, factor),) if isinstance(step.module, Quantized) else ()


def _scaled(name: str, operands: tuple[Operand, ...]) -> tuple[int, float]:
    """The step whose result is multiplied by a number, and the number; (-1, 0) for any other product."""
    if name == "neg" and operands:
        return operands[0].step, -1.0
    numbers = [o.number for o in operands if o.number is not None]
    sources = [o.step for o in operands if o.step >= 0]
    if len(numbers) != 1 or len(sources) != 1 or not numbers[0] or not math.isfinite(numbers[0]):
        return -1, 0.0
    if name == "div":
        return (sources[0], 1 / numbers[0]) if operands[0].number is None else (-1, 0.0)
    return sources[0], numbers[0]
