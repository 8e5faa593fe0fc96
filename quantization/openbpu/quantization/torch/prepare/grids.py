"""Grids of grid_sample, found in the record of a forward pass: what they are made of is int16.

    conv → tanh ─┐                        in int8 a point of [−1, 1] is off by up to 1/254: 4 pixels of 1,000
    base grid ───┴ add → permute → grid of grid_sample

Back from every grid over what moves and computes element by element; a product and a layer give int16, too,
but what they read keeps its type, as does a divisor, which is int8 on the BPU.
"""

from __future__ import annotations

from openbpu.quantization.torch.dtype import qint16
from openbpu.quantization.torch.qat import Weighted
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.trace import Recorder, Step

_ENDS = frozenset({"matmul", "bmm", "einsum", "addmm", "baddbmm", "linear", "conv", "softmax", "grid_sample"})


def widen(recorder: Recorder) -> None:
    """Make int16 what grids are computed of."""
    todo = [step.reads[-1] for step in recorder.steps if step.name == "grid_sample" and len(step.reads) == 2]
    seen = set[int]()
    while todo:
        index = todo.pop()
        if index < 0 or index in seen:
            continue
        seen.add(index)
        step = recorder.steps[index]
        if isinstance(step.module, Quantized):
            step.module.result_dtype = qint16
        todo += _operands(step)


def _operands(step: Step) -> tuple[int, ...]:
    """The steps whose results are to be as fine as that of a step."""
    if step.name in _ENDS or isinstance(step.module, Weighted):
        return ()
    return step.reads[:1] if step.name == "div" else step.reads
