"""Changes at the ends of a program, and of layouts inside it."""

from __future__ import annotations

import numpy as np

from openbpu.arch.isa import ENGINES, Engine
from openbpu.arch.program import BpuSegment, CpuSegment, Dequantize, Move, Operator, Program, Quantize
from openbpu.arch.timing import Costs
from openbpu.runtime.roofline.changes.base import dropped
from openbpu.runtime.roofline.site import Site

_REMOVABLE = ("quantize", "dequantize", "transpose")


def layout_end(site: Site, index: int) -> str:
    """Say that a Transpose at an end of the program can stay outside, which only codes can do."""
    side = _side(site, index) if _transposes(site, index) else ""
    if not side:
        return ""
    op, program = site.segment.operators[index], site.program
    tensor, ends = (op.inputs[0], program.inputs) if side == "input" else (op.outputs[0], program.outputs)
    bare = program.root(tensor) in map(program.root, ends)
    codes = "" if bare else {"input": "quantize", "output": "dequantize"}[side]
    return f"layout move at the {side}: {without(program, codes, 'transpose')}"


def without(program: Program, *kinds: str) -> str:
    """Return the option that takes these off the ends, and what was taken off already."""
    taken = dict(program.options).get("remove_io", "").split(",")
    return f"--remove-io {','.join(k for k in _REMOVABLE if k in {*kinds, *taken})}"


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
    """Return "input" or "output" for an operator at an end that can be channels last, "" for one inside.

    That is a 4-D tensor of codes, or one that is when its conversion is taken off as well; one that compile
    was told to turn, and did not, cannot be.
    """
    op, program = site.segment.operators[index], site.program
    if "transpose" in dict(program.options).get("remove_io", ""):
        return ""
    inputs, outputs = site.once(_ends_of)
    if program.root(op.inputs[0]) in inputs:
        return "input"
    made = op.outputs[0]
    read_inside = _reads(program, made) > (program.root(made) not in map(program.root, program.outputs))
    return "output" if program.root(made) in outputs and not read_inside else ""


def _ends_of(program: Program) -> tuple[set[int], set[int]]:
    """Return the 4-D tensors of codes at the ends, also those behind a conversion that comes off."""
    inputs, outputs = set(program.inputs), set(program.outputs)
    for s in program.segments:
        for op in s.operators if isinstance(s, BpuSegment) else ():
            kind = _comes_off(program, op)
            inputs |= set(op.outputs) if kind == "quantize" else set()
            outputs |= set(op.inputs[:1]) if kind == "dequantize" else set()
    for index, kind in converting_segments(program).items():
        segment = program.segments[index]
        inputs |= set(segment.outputs) if kind == "quantize" else set()
        outputs |= set(segment.inputs) if kind == "dequantize" else set()
    return _images(program, inputs), _images(program, outputs)


def _images(program: Program, ids: set[int]) -> set[int]:
    found = (i for i in ids if len(program.tensors[i].shape) == 4 and program.tensors[i].dtype.is_quantized)
    return {program.root(i) for i in found}


def converting_segments(program: Program) -> dict[int, str]:
    """Return the CPU segments that only convert at an end and can stay outside: index → --remove-io's word.

    A Dequantize that the compiler put behind a raw result has no row in the placement.
    """
    found = {}
    for index, segment in enumerate(program.segments):
        if not isinstance(segment, CpuSegment):
            continue
        rows = [p for p in program.placement if p.segment == index and p.on == "CPU"]
        if not {p.op for p in rows} <= {"QuantizeLinear", "DequantizeLinear"}:
            continue
        if any("--remove-io" not in p.fix for p in rows):
            continue
        if set(segment.inputs) <= set(program.inputs):
            found[index] = "quantize"
        elif set(segment.outputs) <= set(program.outputs):
            found[index] = "dequantize"
    return found


def conversion(site: Site, index: int) -> str:
    """Say that a Quantize or Dequantize at an end can stay outside."""
    kind = _comes_off(site.program, site.segment.operators[index])
    if not kind:
        return ""
    return f"{kind} at the {'input' if kind == 'quantize' else 'output'}: {without(site.program, kind)}"


def _comes_off(program: Program, op: Operator) -> str:
    """Return "quantize" or "dequantize" for what --remove-io takes off, "" for any other operator.

    It is the only reader of an input, or makes an output that nothing else reads; its codes are neither.
    """
    kind = {Quantize: "quantize", Dequantize: "dequantize"}.get(type(op), "")
    if not kind:
        return ""
    first, last = op.inputs[0], op.outputs[0]
    outer, inner = (first, last) if kind == "quantize" else (last, first)
    if outer not in (program.inputs if kind == "quantize" else program.outputs):
        return ""
    alone = _reads(program, outer) == (1 if kind == "quantize" else 0)
    ends = program.outputs if kind == "quantize" else program.inputs
    return kind if alone and outer not in ends and inner not in (*program.inputs, *program.outputs) else ""


def _reads(program: Program, tensor: int) -> int:
    """Return how many operators and CPU segments read a tensor, also through a view."""
    root = program.root(tensor)
    bpu = [op.inputs for s in program.segments if isinstance(s, BpuSegment) for op in s.operators]
    cpu = [s.inputs for s in program.segments if isinstance(s, CpuSegment)]
    return sum(any(program.root(i) == root for i in inputs) for inputs in (*bpu, *cpu))


def unconverted(site: Site) -> list[Costs]:
    """Quantize and Dequantize cost nothing, and their float side moves the bytes of their integers."""
    tensors = site.program.tensors
    table = np.ones((len(site.segment.operators), ENGINES))
    for index, op in enumerate(site.segment.operators):
        if isinstance(op, (Quantize, Dequantize)):
            sizes = (tensors[op.inputs[0]].dtype.nbytes, tensors[op.outputs[0]].dtype.nbytes)
            float_side = Engine.LOAD if isinstance(op, Quantize) else Engine.STORE
            table[index, float_side] = min(sizes) / max(sizes)
    shares = [table[operator, engine] for operator, engine in zip(site.operator, site.engine, strict=True)]
    return site.with_transfers(dropped(site), shares)
