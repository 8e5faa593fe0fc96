"""Changes at the ends of a program, and of layouts inside it."""

from __future__ import annotations

import numpy as np

from openbpu.arch.isa import ENGINES, Engine
from openbpu.arch.program import CpuSegment, Dequantize, Move, Operator, Program, Quantize
from openbpu.arch.timing import Costs
from openbpu.runtime.roofline.changes.base import dropped
from openbpu.runtime.roofline.site import Site


def layout_end(site: Site, index: int) -> str:
    """Say that a Transpose at an end of the program can stay outside."""
    side = _side(site, index) if _transposes(site, index) else ""
    return f"layout move at the {side}: --remove-io transpose" if side else ""


def layout_inside(site: Site, index: int) -> str:
    """Say that a Transpose inside the program moves data."""
    inside = _transposes(site, index) and not _side(site, index)
    return (
        "a layout move between layers: leave out the Transpose, Reshape or Pad that asks for it"
        if inside
        else ""
    )


def _transposes(site: Site, index: int) -> bool:
    """Whether an operator permutes axes and does nothing else."""
    op = site.segment.operators[index]
    if not isinstance(op, Move) or op.offset:
        return False
    axes = [(stride, size) for stride, size in zip(op.strides, op.shape, strict=True) if size > 1]
    dense = 1
    for stride, size in sorted(axes):
        if stride != dense:
            return False
        dense *= size
    return axes != sorted(axes, reverse=True)


def _side(site: Site, index: int) -> str:
    """Return "input" or "output" for a 4-D operator at an end of the program, "" for one inside."""
    op, program = site.segment.operators[index], site.program
    if len(program.tensors[op.outputs[0]].shape) != 4:
        return ""
    came, went = program.root(op.inputs[0]), program.root(op.outputs[0])
    makers = {came, *(i for o in site.segment.operators for i in _through(o, Quantize, program, came))}
    users = {went, *(i for o in site.segment.operators for i in _through(o, Dequantize, program, went))}
    inputs, outputs = ends_of(program)
    if not makers.isdisjoint(inputs):
        return "input"
    return "output" if not users.isdisjoint(outputs) else ""


def _through(op: Operator, kind: type[Operator], program: Program, tensor: int) -> set[int]:
    """Return the tensors on both sides of a conversion of this kind that touches `tensor`."""
    both = {program.root(op.inputs[0]), program.root(op.outputs[0])} if isinstance(op, kind) else set()
    return both if tensor in both else set()


def ends_of(program: Program) -> tuple[set[int], set[int]]:
    """Return the tensors from outside and those that go there, also through a conversion on the CPU."""
    inputs = {program.root(i) for i in program.inputs}
    outputs = {program.root(i) for i in program.outputs}
    for index, kind in converting_segments(program).items():
        segment = program.segments[index]
        if kind == "quantize":
            inputs |= {program.root(i) for i in segment.outputs}
        else:
            outputs |= {program.root(i) for i in segment.inputs}
    return inputs, outputs


def converting_segments(program: Program) -> dict[int, str]:
    """Return the CPU segments at the ends that only convert: index → "quantize" or "dequantize"."""
    found = {}
    for index, segment in enumerate(program.segments):
        if not isinstance(segment, CpuSegment):
            continue
        kinds = {p.op for p in program.placement if p.segment == index and p.on == "CPU"}
        if kinds == {"QuantizeLinear"} and set(segment.inputs) <= set(program.inputs):
            found[index] = "quantize"
        if kinds == {"DequantizeLinear"} and set(segment.outputs) <= set(program.outputs):
            found[index] = "dequantize"
    return found


def conversion(site: Site, index: int) -> str:
    """Say that a Quantize or Dequantize at an end can stay outside."""
    op = site.segment.operators[index]
    kind = {Quantize: "quantize", Dequantize: "dequantize"}.get(type(op), "")
    if not kind:
        return ""
    at = site.program.inputs if kind == "quantize" else site.program.outputs
    ends = {site.program.root(i) for i in at}
    mine = op.inputs if kind == "quantize" else op.outputs
    if ends.isdisjoint(site.program.root(i) for i in mine):
        return ""
    return f"{kind} at the {'input' if kind == 'quantize' else 'output'}: --remove-io {kind}"


def unconverted(site: Site) -> list[Costs]:
    """Quantize and Dequantize cost nothing, and their float side moves the bytes of their integers."""
    tensors = site.program.tensors

    def share(op: Operator) -> float:
        if not isinstance(op, (Quantize, Dequantize)):
            return 1.0
        sizes = (tensors[op.inputs[0]].dtype.nbytes, tensors[op.outputs[0]].dtype.nbytes)
        return min(sizes) / max(sizes)

    def is_float_side(op: Operator, engine: int) -> bool:
        return isinstance(op, {Engine.LOAD: Quantize, Engine.STORE: Dequantize}.get(Engine(engine), ()))

    table = np.array(
        [
            [share(op) if is_float_side(op, e) else 1.0 for e in range(ENGINES)]
            for op in site.segment.operators
        ]
    )
    shares = [table[operator, engine] for operator, engine in zip(site.operator, site.engine, strict=True)]
    return site.with_transfers(dropped(site), shares)
