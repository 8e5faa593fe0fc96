"""Somebody's integers held against the witness: layer by layer, and end to end.

Layer by layer, the graph is cut at every observed tensor, so that one allowed tie flip does not
show up again in each tensor after it::

    observed q1 ->| DQ -> Conv -> Relu -> Q |-> compared with observed q2 ->| DQ -> ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from openbpu.evaluation.reference.float64 import constants, evaluate, opset_of, prepared, results_of, run_node
from openbpu.evaluation.reference.kernel import Array, Quantized


@dataclass(frozen=True, slots=True)
class TensorReport:
    """How one quantized tensor compares.

    ``mismatches_off_tie`` counts the differences no tie can excuse. ``max_steps`` is the largest
    integer difference; ``max_error`` is the largest distance, in steps, between an observed
    integer and the real value it rounds: 0.5 for perfect rounding, at most the stated bound for
    an approximated operator.
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


def _report(name: str, producer: str, exact: Quantized, tie: Array, observed: Array) -> TensorReport:
    expected = exact.values
    wide = observed.astype(np.int64)
    steps = np.abs(expected.astype(np.int64) - wide)
    return TensorReport(
        name=name,
        producer=producer,
        dtype=expected.dtype.name,
        elements=expected.size,
        mismatches=int(np.count_nonzero(steps)),
        mismatches_off_tie=int(np.count_nonzero((steps != 0) & ~tie)),
        ties=int(np.count_nonzero(tie)),
        max_steps=int(steps.max(initial=0)),
        max_error=float(np.nan_to_num(np.abs(exact.real - wide), nan=np.inf).max(initial=0.0)),
    )


class _CutRun:
    """One pass over the graph that continues from the observed tensors.

    With ``flip``, each rounding nobody observed resolves its near ties the other way: where the
    two passes disagree, an unseen tie upstream is the reason.
    """

    def __init__(
        self, model: onnx.ModelProto, known: Mapping[str, Array], observed: Mapping[str, Array], flip: bool
    ) -> None:
        self.values: dict[str, Array] = {**constants(model), **known, **observed}
        self.observed = observed
        self.flip = flip
        self.unseen_ties = False
        self.roundings: dict[str, Quantized] = {}
        self.producers: dict[str, str] = {}
        opset = opset_of(model)
        with np.errstate(all="ignore"):
            for node in model.graph.node:
                self._step(node, opset)

    def _step(self, node: onnx.NodeProto, opset: int) -> None:
        if any(n and n not in self.values for n in node.input):
            return
        inputs = tuple(self.values[n] if n else None for n in node.input)
        for name, result in zip(node.output, results_of(run_node(node, inputs, opset)), strict=False):
            rounds = node.op_type == "QuantizeLinear"
            self.producers[name] = self.producers.get(node.input[0], "input") if rounds else node.op_type
            self._keep(name, result)

    def _keep(self, name: str, result: Array | Quantized) -> None:
        shape = (result.scaled if isinstance(result, Quantized) else result).shape
        if name in self.observed and self.observed[name].shape != shape:
            raise ValueError(f"{name}: shape must be {shape}, not {self.observed[name].shape}")
        if isinstance(result, Quantized):
            self.roundings[name] = result
            if name not in self.observed:
                self.unseen_ties |= bool(result.near_tie.any())
                self.values[name] = result.flipped if self.flip else result.values
        elif name not in self.observed:
            self.values[name] = result


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
    model = prepared(model)
    known = {n: np.asarray(v) for n, v in (inputs or {}).items()}
    cuts = {n: np.asarray(v) for n, v in observed.items()}
    nominal = _CutRun(model, known, cuts, flip=False)
    other = _CutRun(model, known, cuts, flip=True) if nominal.unseen_ties else nominal
    reports = {}
    for name in (n for n in nominal.roundings if n in observed):
        exact = nominal.roundings[name]
        tie = exact.near_tie | (exact.values != other.roundings[name].values)
        tie |= other.roundings[name].near_tie
        reports[name] = _report(name, nominal.producers[name], exact, tie, cuts[name])
    return reports


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
