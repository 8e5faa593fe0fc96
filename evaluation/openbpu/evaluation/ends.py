"""The ends of a compiled program and those of the ONNX model it came from: feeds and outputs of both."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import ValueInfoProto

from openbpu.arch.arrays import Array
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError, must
from openbpu.arch.numerics import dequantize, quantize, unpacked_scales
from openbpu.arch.program import BpuSegment, CpuSegment, Dequantize, Program, Quantize
from openbpu.quantization.onnx.samples import input_of
from openbpu.quantization.samples import Input
from openbpu.quantization.samples.inputs import Shape
from openbpu.runtime.reference import Feed
from openbpu.runtime.session import Session
from openbpu.runtime.tensors import TensorInfo


def takers(session: Session, inputs: Sequence[ValueInfoProto], runs: int = 1) -> list[Input]:
    """Return the inputs of a model as readers of samples take them, in the sizes of the program.

    `runs`: how many runs of the model one of the program is. Raises InputError where the model declares other
    sizes.
    """
    ours, turned = {t.name: t for t in session.inputs}, channels_last(session.program)
    found = []
    for t, value in zip(session.inputs, inputs, strict=True):
        own, taker = ours.get(value.name, t), input_of(value)
        shape = own.shape
        if own.name in turned:
            n, *places, channels = own.shape
            shape = (n, channels, *places)
        if not _fits(_of_one(shape, runs), taker.shape):
            where, fix = f"input '{taker.name}'", "compare it with the model it was compiled from"
            raise InputError(must(where, "the shape in the .hbm", taker.shown, shape, fix))
        found.append(replace(taker, shape=shape))
    return found


def _of_one(shape: tuple[int, ...], runs: int) -> tuple[int, ...]:
    return (shape[0] // runs, *shape[1:]) if shape else shape


def _fits(shape: tuple[int, ...], declared: Shape | None) -> bool:
    return declared is None or (
        len(shape) == len(declared)
        and all(not isinstance(d, int) or d == n for n, d in zip(shape, declared, strict=True))
    )


def random_inputs(session: Session, seed: int) -> dict[str, Array]:
    """Return inputs that fill the range of every quantized input; floats unless it takes something else."""
    rng = np.random.default_rng(seed)
    steps, turned = _input_steps(session.program), channels_last(session.program)
    return {
        t.name: _first(_random(rng, t, steps.get(i)), t, turned)
        for i, t in zip(session.program.inputs, session.inputs, strict=True)
    }


def noise(session: Session, samples: int, seed: int) -> Iterator[dict[str, Array]]:
    """Yield reproducible inputs of so many runs; the seed of each is one above that of the run before."""
    return (random_inputs(session, each) for each in range(seed, seed + samples))


def _random(rng: np.random.Generator, t: TensorInfo, step: float | None) -> Array:
    if t.dtype is DType.FLOAT32 or t.scale:
        spread = 1.0 if step is None else step * 127 / 3  # 3 sigma reach the ends of int8
        return (rng.standard_normal(t.shape) * spread).astype(np.float32)
    if t.dtype.numpy.kind == "f":
        return rng.standard_normal(t.shape).astype(t.dtype.numpy)
    return rng.integers(0, 2, t.shape).astype(t.dtype.numpy)  # legal as an index, a flag and a pixel


class Ends:
    """How the inputs and outputs of a program belong to those of the ONNX model it is compared with.

    They pair up by name, or by position where the names differ. Where the program takes or makes integers or
    keeps channels last (`--remove-io`), the model's form is what feeds and outputs have here. Raises
    InputError where their numbers differ.
    """

    def __init__(self, session: Session, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        _check_counts(session, inputs, outputs)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.steps = _output_steps(session.program)
        self._session, self._turned = session, channels_last(session.program)
        ours = [t.name for t in session.outputs]
        order = [ours.index(n) for n in outputs] if set(ours) == set(outputs) else range(len(ours))
        self._ours = [session.outputs[k] for k in order]
        self._ids = [session.program.outputs[k] for k in order]

    def feed(self, given: Feed) -> dict[str, Array]:
        """Return a feed under the model's names."""
        return _named(given, [t.name for t in self._session.inputs], self.inputs)

    def given(self, feed: Feed) -> dict[str, Array]:
        """Return a feed as the program takes it: its names, its integers, its layout."""
        ours = {t.name: t for t in self._session.inputs}
        return {
            name: _as_input(ours[name], _last(x, ours[name], self._turned)) if name in ours else x
            for name, x in _named(feed, self.inputs, list(ours)).items()
        }

    def made(self, outputs: Mapping[str, Array], like: Mapping[str, Array]) -> dict[str, Array]:
        """Return the program's outputs under the model's names, in codes where the model makes codes."""
        found = {}
        for name, t in zip(self.outputs, self._ours, strict=True):
            y = outputs[t.name]
            codes = name in like and like[name].dtype.kind in "iu"
            found[name] = _first(y if codes else _as_float(t, y), t, self._turned)
        return found

    def codes(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs that the program gives as codes, under the model's names."""
        return {
            name: _first(outputs[t.name], t, self._turned)
            for name, t in zip(self.outputs, self._ours, strict=True)
            if outputs[t.name].dtype.kind in "iu"
        }

    def step(self, name: str, like: Array) -> float | None:
        """Return the quantization step of an output of the model, 1 for codes, None where it has none."""
        if like.dtype.kind in "iu":
            return 1.0
        return self.steps.get(self._ids[self.outputs.index(name)])


def _check_counts(session: Session, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    for what, ours, theirs in (
        ("inputs", len(session.inputs), len(inputs)),
        ("outputs", len(session.outputs), len(outputs)),
    ):
        if ours != theirs:
            fix = "compare it with the model it was compiled from"
            raise InputError(must("verify", f"the number of {what} of the .hbm", theirs, ours, fix))


def _named(feed: Feed, names: Sequence[str], wanted: Sequence[str]) -> dict[str, Array]:
    """Return the feed under other names, by position, unless it has the wanted names already."""
    if set(feed) == set(wanted) or set(feed) != set(names):
        return dict(feed)
    return {new: feed[old] for old, new in zip(names, wanted, strict=True)}


def channels_last(program: Program) -> frozenset[str]:
    """Return the names of inputs and outputs that are N×H×W×C where the ONNX model's are N×C×H×W."""
    return frozenset(json.loads(dict(program.options).get("channels_last", "[]")))


def _last(x: Array, t: TensorInfo, turned: frozenset[str]) -> Array:
    is_image = t.name in turned and x.ndim == len(t.shape)
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if is_image else x


def _first(x: Array, t: TensorInfo, turned: frozenset[str]) -> Array:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if t.name in turned else x


def _as_input(t: TensorInfo, x: Array) -> Array:
    if x.dtype.kind != "f" or t.dtype.numpy.kind == "f" or not t.scale:
        return x
    return quantize(x, _along(t, t.scale), t.zero_point, t.dtype)


def _as_float(t: TensorInfo, y: Array) -> Array:
    if not t.scale or y.dtype.kind == "f":
        return y
    return dequantize(y, _along(t, t.scale), t.zero_point)


def _along(t: TensorInfo, scale: Sequence[float]) -> Array:
    values = np.asarray(scale, dtype=np.float32)
    if values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if axis == t.axis % len(t.shape) else 1 for axis in range(len(t.shape))])


def _operators(program: Program) -> Iterator[Any]:
    for segment in program.segments:
        if isinstance(segment, BpuSegment):
            yield from segment.operators


def _input_steps(program: Program) -> dict[int, float]:
    """Map inputs to their quantization step: their own scale, or that of the Quantize that reads them."""
    steps = {i: max(t.scale) for i, t in enumerate(program.tensors) if t.scale}
    steps |= {program.root(op.inputs[0]): op.scale for op in _operators(program) if isinstance(op, Quantize)}
    steps |= _cpu_steps(program, "QuantizeLinear")
    return {i: steps[program.root(i)] for i in program.inputs if program.root(i) in steps}


def _output_steps(program: Program) -> dict[int, float]:
    """Map outputs to their quantization step: their own scale, or that of the Dequantize that makes them."""
    steps = {i: max(t.scale) for i, t in enumerate(program.tensors) if t.scale}
    for op in _operators(program):
        if isinstance(op, Dequantize):
            steps[program.root(op.outputs[0])] = float(
                unpacked_scales(program.constant(op.scales_id))[0].max()
            )
    steps |= _cpu_steps(program, "DequantizeLinear")
    found = {i: steps.get(i, steps.get(program.root(i))) for i in program.outputs}
    return {i: step for i, step in found.items() if step}


def _cpu_steps(program: Program, op: str) -> dict[int, float]:
    """Map tensors at the border of a CPU segment to the step of the node that (de)quantizes them there."""
    steps: dict[int, float] = {}
    for segment in program.segments:
        if isinstance(segment, CpuSegment) and op.encode() in segment.model:
            ids = dict(zip(segment.names_in, segment.inputs, strict=True))
            if op == "DequantizeLinear":
                ids = dict(zip(segment.names_out, segment.outputs, strict=True))
            steps |= {
                program.root(ids[n]): step for n, step in _steps_in(segment.model, op).items() if n in ids
            }
    return steps


def _steps_in(model: bytes, op: str) -> dict[str, float]:
    """Return the step of every float tensor that a Quantize reads or a Dequantize makes, by name."""
    import onnx  # noqa: PLC0415  # only programs that quantize on the CPU need it

    graph = onnx.ModelProto.FromString(model).graph
    scales = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    ends = (
        (n.input[0] if op == "QuantizeLinear" else n.output[0], n.input[1])
        for n in graph.node
        if n.op_type == op
    )
    return {name: float(scales[scale].max()) for name, scale in ends if scale in scales}
