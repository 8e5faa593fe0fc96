"""Somebody's integers held against the witness: layer by layer, and end to end.

Layer by layer, the graph is cut at every observed tensor, so that one allowed tie flip does not
show up again in each tensor after it::

    observed q1 ->| DQ -> Conv -> Relu -> Q |-> compared with observed q2 ->| DQ -> ...
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import onnx

from openbpu.evaluation.reference.float64 import Fallback, Progress, Walk, constants, evaluate, reads_of
from openbpu.evaluation.reference.kernel import Array, Quantized

_CASTS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, slots=True)
class Step:
    """A node on the way to a tensor: its name and operator."""

    node: str
    op: str


@dataclass(frozen=True, slots=True)
class TensorReport:
    """How one quantized tensor compares.

    ``mismatches_off_tie`` counts the differences no tie can excuse. ``max_steps`` is the largest
    integer difference; ``max_error`` is the largest distance, in steps, between an observed
    integer and the real value it rounds: 0.5 for perfect rounding, at most the stated bound for
    an approximated operator. ``cone``: the operators between the tensors observed before and this
    one, ``from16``: whether one of these tensors has 16 bits.
    """

    name: str
    producer: str
    dtype: str
    elements: int
    mismatches: int
    mismatches_off_tie: int
    ties: int
    max_steps: int
    max_error: float
    cone: tuple[Step, ...] = ()
    from16: bool = False

    @property
    def exact(self) -> bool:
        """Equal wherever no tie is near."""
        return self.mismatches_off_tie == 0

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.producer}, {self.dtype}): {self.mismatches}/{self.elements} differ, "
            f"{self.mismatches_off_tie} off tie, {self.ties} ties, "
            f"max {self.max_steps} steps, error {self.max_error:.4f}"
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """How two arrays differ: fraction of elements, and the largest difference in steps."""

    elements: int
    fraction: float
    max_steps: float


def difference(expected: Array, observed: Array, step: float = 1.0) -> Difference:
    """Compare two arrays; ``step`` is the scale of one integer step where they are floats.

    Raises ValueError when the shapes differ.
    """
    if expected.shape != observed.shape:
        raise ValueError(f"observed: shape must be {expected.shape}, not {observed.shape}")
    if expected.size == 0:
        return Difference(0, 0.0, 0.0)
    steps = np.abs(expected.astype(np.float64) - observed.astype(np.float64)) / step
    # Both NaN, or both the same infinity, is no difference.
    steps = np.where(expected == observed, 0.0, steps)
    differ = steps > (0 if expected.dtype.kind in "iu" and observed.dtype.kind in "iu" else 1e-3)
    return Difference(expected.size, float(differ.mean()), float(steps.max()))


def _report(name: str, cone: tuple[Step, ...], exact: Quantized, tie: Array, observed: Array) -> TensorReport:
    expected = exact.values
    wide = observed.astype(np.int64)
    steps = np.abs(expected.astype(np.int64) - wide)
    nowhere = np.isnan(exact.real) & (steps == 0)  # NaN has no integer: equal codes are all there is
    return TensorReport(
        name=name,
        producer=cone[-1].op if cone else "input",
        dtype=expected.dtype.name,
        elements=expected.size,
        mismatches=int(np.count_nonzero(steps)),
        mismatches_off_tie=int(np.count_nonzero((steps != 0) & ~tie)),
        ties=int(np.count_nonzero(tie)),
        max_steps=int(steps.max(initial=0)),
        max_error=float(
            np.where(nowhere, 0.0, np.nan_to_num(np.abs(exact.real - wide), nan=np.inf)).max(initial=0.0)
        ),
        cone=cone,
    )


See: TypeAlias = Callable[[str, tuple[int, ...], np.dtype[Any]], "Array | None"]
"""Asked for a quantized tensor by name, shape and type: somebody's integers, None if they do not show it."""


@dataclass(frozen=True, slots=True)
class Layerwise:
    """``reports`` of every tensor that was seen, in the order of the graph.

    ``outputs``: the graph's outputs as they follow from what was seen; ``others``: the same with every near
    tie that nobody showed rounded the other way, where that differs. ``cones``: what made each output since.
    """

    reports: dict[str, TensorReport]
    outputs: dict[str, Array]
    others: dict[str, Array]
    cones: dict[str, tuple[Step, ...]]


class _CutRun:
    """One pass over the graph that continues from what was seen.

    ``others`` holds, where it differs, what a tensor would be if each rounding that nobody showed had
    resolved its near ties the other way: an unseen tie upstream is the reason for what differs there.
    """

    def __init__(self, walk: Walk, known: Mapping[str, Array], see: See) -> None:
        self.walk, self.see = walk, see
        self.values: dict[str, Array] = {**constants(walk.model), **known}
        self.others: dict[str, Array] = {}
        self.reports: dict[str, TensorReport] = {}
        self.cones: dict[str, frozenset[int]] = {}
        self.from16: set[str] = set()

    def step(self, k: int) -> None:
        """Run node ``k``, unless something it reads is not known."""
        node = self.walk.nodes[k]
        reads = reads_of(node)
        if any(n not in self.values for n in reads):
            return
        cone = frozenset({k}).union(*(self.cones.get(n, frozenset()) for n in reads))
        if any(n in self.from16 or self.values[n].dtype.name in ("int16", "uint16") for n in reads):
            self.from16.update(node.output)
        results = self.walk.apply(node, self.values)
        others: tuple[Array | Quantized, ...] = results
        if any(n in self.others for n in reads):
            others = self.walk.apply(node, ChainMap(self.others, self.values))
        for name, result, other in zip(node.output, results, others, strict=False):
            if name and isinstance(result, Quantized) and isinstance(other, Quantized):
                self._rounded(name, result, other, cone)
            elif name and not isinstance(result, Quantized) and not isinstance(other, Quantized):
                self._keep(name, result, other, cone)

    def _keep(self, name: str, value: Array, other: Array, cone: frozenset[int]) -> None:
        if name in self.values:  # somebody's float tensor, where the graph is cut
            return
        self.values[name] = value
        self.cones[name] = cone
        if other is not value and not np.array_equal(value, other, equal_nan=value.dtype.kind == "f"):
            self.others[name] = other

    def _rounded(self, name: str, exact: Quantized, other: Quantized, cone: frozenset[int]) -> None:
        seen = self.see(name, exact.scaled.shape, exact.dtype)
        if seen is None:
            self._keep(name, exact.values, other.flipped if other.near_tie.any() else other.values, cone)
            return
        tie = exact.near_tie | other.near_tie | (exact.values != other.values)
        report = _report(name, self.steps(cone), exact, tie, seen)
        self.reports[name] = replace(report, from16=name in self.from16)
        self.from16.discard(name)
        self.values[name] = seen

    def steps(self, cone: frozenset[int]) -> tuple[Step, ...]:
        """The operators of a cone in order, without Quantize and Dequantize."""
        nodes = (self.walk.nodes[k] for k in sorted(cone))
        return tuple(Step(n.name, n.op_type) for n in nodes if n.op_type not in _CASTS)

    def forget(self, names: Collection[str]) -> None:
        """Drop what nothing reads any more."""
        for name in names:
            self.values.pop(name, None)
            self.others.pop(name, None)
            self.cones.pop(name, None)


def layerwise(
    model: onnx.ModelProto,
    see: See,
    known: Mapping[str, Array],
    *,
    fallback: Fallback | None = None,
    progress: Progress | None = None,
) -> Layerwise:
    """Walk the graph once, from what ``see`` shows of it on; ``known`` are its inputs (and other cuts).

    Every quantized tensor that is shown is held against float64 *on what was shown before it*, so that one
    tie is one difference and not one in each tensor after it.
    """
    walk = Walk(model, fallback)
    run = _CutRun(walk, {n: np.asarray(v) for n, v in known.items()}, see)
    with np.errstate(all="ignore"):
        for k in range(len(walk.nodes)):
            run.step(k)
            run.forget(walk.spent(k))
            if progress is not None:
                progress(k + 1, len(walk.nodes))
    names = [o.name for o in walk.model.graph.output if o.name in run.values]
    return Layerwise(
        run.reports,
        {n: run.values[n] for n in names},
        {n: run.others[n] for n in names if n in run.others},
        {n: run.steps(run.cones.get(n, frozenset())) for n in names},
    )


def compare_layerwise(
    model: onnx.ModelProto,
    observed: Mapping[str, Array],
    inputs: Mapping[str, Array] | None = None,
) -> dict[str, TensorReport]:
    """Re-evaluate the cone of every observed quantized tensor from the observed ones before it.

    ``observed`` maps tensor names to values in the type the model gives them; a tensor left out
    is evaluated, and its near ties excuse what depends on them. Observed float tensors cut the
    graph too and are not reported. ``inputs`` are needed where a float input reaches a compared
    tensor; without them, such tensors are taken as given.
    """
    cuts = {n: np.asarray(v) for n, v in observed.items()}

    def see(name: str, shape: tuple[int, ...], _: np.dtype[Any]) -> Array | None:
        if name in cuts and cuts[name].shape != shape:
            raise ValueError(f"{name}: shape must be {shape}, not {cuts[name].shape}")
        return cuts.get(name)

    return layerwise(model, see, {**(inputs or {}), **cuts}).reports


def output_steps(model: onnx.ModelProto) -> dict[str, float]:
    """For each graph output made by a DequantizeLinear, the scale of its step (per tensor)."""
    known = constants(model)
    steps = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[1] in known:
            steps[node.output[0]] = float(known[node.input[1]].min())
    return {o.name: steps[o.name] for o in model.graph.output if o.name in steps}


def compare_end_to_end(
    model: onnx.ModelProto, inputs: Mapping[str, Array], observed: Mapping[str, Array]
) -> dict[str, Difference]:
    """The graph's outputs against the witness's; steps are those of the last DequantizeLinear.

    Outputs without one are compared in units of a 127.5th of their largest magnitude.
    """
    expected = evaluate(model, inputs).outputs
    steps = output_steps(model)
    differences = {}
    for name, value in observed.items():
        if name in expected:
            step = 1.0 if expected[name].dtype.kind in "iub" else steps.get(name, _own_step(expected[name]))
            differences[name] = difference(expected[name], np.asarray(value), step)
    return differences


def _own_step(value: Array) -> float:
    return float(np.abs(value).max(initial=0.0)) / 127.5 or 1.0
