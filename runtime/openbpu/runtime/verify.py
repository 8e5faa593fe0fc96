"""A compiled program against the ONNX model it came from: the same inputs through both, output by output."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError, must
from openbpu.arch.numerics import dequantize, quantize, unpacked_scales
from openbpu.arch.program import BpuSegment, CpuSegment, Dequantize, Program, Quantize
from openbpu.runtime.reference import Feed, Reference
from openbpu.runtime.session import Session
from openbpu.runtime.tensors import TensorInfo

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One output over all samples. `step` is its quantization step, None (as `max_steps`) where it has none.

    cosine: of all values as one vector, 1 where both are all zero · differing: share of elements that differ
    by half a step or more (at all, for an output without step).
    """

    name: str
    cosine: float
    max_abs: float
    step: float | None
    max_steps: float | None
    differing: float
    elements: int


MIN_COSINE = 0.99
"""An output below it, and beyond one step somewhere, is evidently not that of the same model."""


def failure(c: Comparison, min_cosine: float | None = None, max_steps: float | None = None) -> str:
    """Return in words why an output does not pass, "" when it does.

    Without `min_cosine`, the bound is MIN_COSINE and an output within one step everywhere passes whatever its
    cosine is: next to zeros a single step can turn it. An infinite difference never passes.
    """
    bound = MIN_COSINE if min_cosine is None else min_cosine
    close = min_cosine is None and c.max_steps is not None and c.max_steps <= 1
    where = f"output '{c.name}'"
    if np.isinf(c.max_abs):
        return f"{where}: one side is NaN or infinite where the other is not"
    if c.cosine < bound and not close:
        return f"{where}: cosine {c.cosine:.6f} is below {bound:g}"
    if max_steps is not None and c.max_steps is not None and c.max_steps > max_steps:
        return f"{where}: it differs by {c.max_steps:.3g} steps, more than {max_steps:g}"
    return ""


def random_inputs(session: Session, seed: int) -> dict[str, Array]:
    """Return inputs that fill the range of every quantized input; floats unless it takes something else."""
    rng = np.random.default_rng(seed)
    steps, turned = _input_steps(session.program), _channels_last(session.program)
    return {
        t.name: _first(_random(rng, t, steps.get(i)), t, turned)
        for i, t in zip(session.program.inputs, session.inputs, strict=True)
    }


def _random(rng: np.random.Generator, t: TensorInfo, step: float | None) -> Array:
    if t.dtype is DType.FLOAT32 or t.scale:
        spread = 1.0 if step is None else step * 127 / 3  # 3 sigma reach the ends of int8
        return (rng.standard_normal(t.shape) * spread).astype(np.float32)
    if t.dtype.numpy.kind == "f":
        return rng.standard_normal(t.shape).astype(t.dtype.numpy)
    return rng.integers(0, 2, t.shape).astype(t.dtype.numpy)  # legal as an index, a flag and a pixel


def compare(session: Session, reference: Reference, feeds: Sequence[Feed]) -> list[Comparison]:
    """Run every feed (named and typed as the ONNX model's inputs) through both; one Comparison per output.

    Inputs and outputs pair up by name, or by position where the names differ. Where the compiled program
    takes or makes integers or keeps channels last (`--remove-io`), both sides are brought together here.
    """
    check_feeds(session, reference, feeds)
    steps = _output_steps(session.program)
    pairs: list[list[tuple[Array, Array]]] = [[] for _ in session.outputs]
    ours, turned = [t.name for t in session.inputs], _channels_last(session.program)
    for feed in feeds:
        outputs = session.run(_given(session, reference, feed)).outputs
        expected = list(reference.run(_named(feed, ours, reference.input_names)).values())
        order = _order([t.name for t in session.outputs], reference.output_names)
        for k, t in enumerate(session.outputs):
            pairs[k].append((expected[order[k]], _first(_as_float(t, outputs[t.name]), t, turned)))
    return [
        _comparison(t.name, steps.get(i), pairs[k])
        for k, (i, t) in enumerate(zip(session.program.outputs, session.outputs, strict=True))
    ]


def check_feeds(session: Session, reference: Reference, feeds: Sequence[Feed]) -> None:
    """Raise the InputError that `compare` would raise, without running anything."""
    _check_counts(session, reference)
    for feed in feeds:
        session.check(_given(session, reference, feed))


def _given(session: Session, reference: Reference, feed: Feed) -> dict[str, Array]:
    """Return a feed as the compiled program takes it: its names, its integers, its layout."""
    ours, turned = {t.name: t for t in session.inputs}, _channels_last(session.program)
    return {
        name: _as_input(ours[name], _last(x, ours[name], turned)) if name in ours else x
        for name, x in _named(feed, reference.input_names, list(ours)).items()
    }


def _check_counts(session: Session, reference: Reference) -> None:
    for what, ours, theirs in (
        ("inputs", len(session.inputs), len(reference.input_names)),
        ("outputs", len(session.outputs), len(reference.output_names)),
    ):
        if ours != theirs:
            fix = "compare it with the model it was compiled from"
            raise InputError(must("verify", f"the number of {what} of the .hbm", theirs, ours, fix))


def _order(ours: Sequence[str], theirs: Sequence[str]) -> list[int]:
    """Return where each of our names stands among theirs: by name if all are there, by position if not."""
    return [theirs.index(name) for name in ours] if set(ours) == set(theirs) else list(range(len(ours)))


def _named(feed: Feed, names: Sequence[str], wanted: Sequence[str]) -> dict[str, Array]:
    """Return the feed under other names, by position, unless it has the wanted names already."""
    if set(feed) == set(wanted) or set(feed) != set(names):
        return dict(feed)
    return {new: feed[old] for old, new in zip(names, wanted, strict=True)}


def _channels_last(program: Program) -> frozenset[str]:
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


def _comparison(name: str, step: float | None, pairs: Sequence[tuple[Array, Array]]) -> Comparison:
    for expected, actual in pairs:
        if expected.shape != actual.shape:
            fix = "compare it with the model it was compiled from"
            raise InputError(must(f"output '{name}'", "the shape", expected.shape, actual.shape, fix))
    a = np.concatenate([np.asarray(e, dtype=np.float64).reshape(-1) for e, _ in pairs])
    b = np.concatenate([np.asarray(y, dtype=np.float64).reshape(-1) for _, y in pairs])
    # Equal infinities and NaNs are no difference; unequal ones are an infinite one.
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf, posinf=np.inf))
    largest = float(gap.max(initial=0.0))
    limit = step / 2 if step else 0.0
    differing = float(np.mean((gap >= limit) & (gap > 0))) if gap.size else 0.0
    return Comparison(name, _cosine(a, b), largest, step, largest / step if step else None, differing, a.size)


def _cosine(a: Array, b: Array) -> float:
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = a[finite], b[finite]
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    if scale == 0.0:
        return 1.0 if not a.any() and not b.any() else 0.0
    return min(float(a @ b) / scale, 1.0)
