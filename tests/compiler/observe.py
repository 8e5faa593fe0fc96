"""Looking inside a compiled program: the integers of every quantized tensor, as the model names them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from openbpu.arch.program import BpuSegment, Program, Space, Tensor
from openbpu.evaluation.reference import evaluate
from openbpu.runtime.cpu import CpuRunner
from openbpu.simulator.exact import ExactSegment

Array = npt.NDArray[Any]
_HALF = {"uint8": 128, "uint16": 32768}


def run_everything(program: Program, inputs: dict[str, Array]) -> dict[str, Array]:
    """Run a program compiled with opt=0 (every tensor has DDR bytes of its own); return tensors by name."""
    values: dict[int, Array] = {i: inputs[program.tensors[i].name] for i in program.inputs}
    for segment in program.segments:
        feeds = {i: _value(program, values, i) for i in segment.inputs}
        if isinstance(segment, BpuSegment):
            made = tuple(dict.fromkeys(o for op in segment.operators for o in op.outputs))
            seen = replace(segment, outputs=tuple(i for i in made if _in_ddr(program, i)))
            values.update(ExactSegment(program, seen).run(feeds))
        else:
            values.update(CpuRunner(program, segment, 1).run(feeds))
    named = {program.tensors[i].name: v for i, v in values.items()}
    for i, t in enumerate(program.tensors):
        if t.space is Space.VIEW and program.root(i) in values:
            named[t.name] = _as(t, values[program.root(i)])
    return named


def _in_ddr(program: Program, i: int) -> bool:
    return program.tensors[program.root(i)].space is Space.DDR


def _value(program: Program, values: dict[int, Array], i: int) -> Array:
    if i in values:
        return values[i]
    t = program.tensors[i]
    if t.space is Space.VIEW:
        return _as(t, _value(program, values, t.address))
    return np.asarray(program.constant(i))


def _as(view: Tensor, value: Array) -> Array:
    """The same bytes in the shape of a view, and in its type: bools are codes to the BPU."""
    same = value.dtype.itemsize == view.dtype.nbytes
    return (value.view(view.dtype.numpy) if same else value).reshape(view.shape)


def quantized_tensors(
    model: onnx.ModelProto, inputs: dict[str, Array], tensors: dict[str, Array]
) -> dict[str, Array]:
    """Pick the outputs of the model's QuantizeLinear nodes, in the model's own type and layout."""
    meant = evaluate(model, inputs).values
    types = {t.name: onnx.helper.tensor_dtype_to_np_dtype(t.data_type) for t in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        name = node.output[0]
        dtype = types.get(node.input[2]) if len(node.input) > 2 else np.dtype(np.uint8)
        value = _look_up(name, tensors, meant[name].shape)
        if value is not None and dtype is not None:
            half = _HALF.get(dtype.name, 0)
            value = value.reshape(meant[name].shape)  # 1-D layers are 2-D ones of height 1
            found[name] = (value.astype(np.int64) + half).astype(dtype) if value.dtype != dtype else value
    return found


def _look_up(name: str, tensors: dict[str, Array], shape: tuple[int, ...]) -> Array | None:
    for stem in (name, f"{name}/signed"):
        if stem in tensors:
            return tensors[stem]
        nhwc = tensors.get(f"{stem}/nhwc")
        if nhwc is not None and len(shape) == 5:  # the slices of a volume are images of a batch
            return np.moveaxis(nhwc.reshape(-1, *shape[2:], shape[1]), -1, 1)
        if nhwc is not None and nhwc.ndim == 4:
            return nhwc.transpose(0, 3, 1, 2)
    return None
