"""The proof of a fix: the model before and after, run on ONNX Runtime without optimizations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, helper

from openbpu.arch.arrays import Array
from openbpu.arch.errors import ModelError, must
from openbpu.quantization.onnx.samples import Calibration, feeds_of, random_feed
from openbpu.runtime.cpu import make_engine

Feed = Mapping[str, Array]
_SAMPLES = 4
FLOAT = 1e-4
"""Of a float model: what other orders of sums may change, as a share of an output's largest magnitude."""

CODES = 0.02
"""Of a quantized one: a sum that fell beside the tie of a rounding is a step of int8 (0.8 %) off, or two."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What runs have shown. difference: the largest of an output, as a share of its largest magnitude."""

    difference: float
    bound: float
    runs: int

    @property
    def holds(self) -> bool:
        """Whether the outputs agree."""
        return self.difference <= self.bound


class Witness:
    """What a model makes of some data; raises ModelError for one that does not run."""

    def __init__(self, model: ModelProto, calibration: Calibration | None) -> None:
        if calibration is not None:
            self.feeds: list[Feed] = list(feeds_of(calibration, model.graph.input)[:_SAMPLES])
        else:
            self.feeds = _drawn(model)
        try:
            self.expected = _run(model, self.feeds)
        except ModelError:
            if calibration is not None or len(self.feeds) == 1:
                raise
            self.feeds = self.feeds[:1]  # zeros for integers: no index is out of range
            self.expected = _run(model, self.feeds)

    def proof(self, model: ModelProto, bound: float) -> Proof:
        """Return how far the outputs of a model are from that: infinitely where it does not run."""
        try:
            made = _run(model, self.feeds)
        except ModelError:
            return Proof(float("inf"), bound, 0)
        pairs = [ab for a, b in zip(self.expected, made, strict=True) for ab in zip(a, b, strict=True)]
        return Proof(max((_difference(a, b) for a, b in pairs), default=0.0), bound, len(self.feeds))


def _run(model: ModelProto, feeds: Iterable[Feed]) -> list[Sequence[Array]]:
    engine = make_engine(f"model '{model.graph.name}'", model.SerializeToString(), 1, plain=True)
    try:
        return [engine.run(None, dict(feed)) for feed in feeds]
    except ModelError:
        raise
    except Exception as error:  # ONNX Runtime has a class per status code and no public base
        reason, fix = " ".join(str(error).split()), "give data that fit with --calib"
        raise ModelError(must("check --fix", "the model", "one that runs", f"({reason})", fix)) from error


def _drawn(model: ModelProto) -> list[Feed]:
    """Noise of 0 … 1 and zeros for integers; then noise around 0, and zeros and ones."""
    first, rng = random_feed(model.graph.input), np.random.default_rng(1)
    second: dict[str, Array] = {}
    for value in model.graph.input:
        shape = first[value.name].shape
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        drawn = rng.normal(size=shape) * 2 if dtype.kind == "f" else rng.integers(0, 2, shape)
        second[value.name] = np.asarray(drawn, dtype)
    return [first, second]


def _difference(expected: Array, made: Array) -> float:
    if expected.shape != made.shape or expected.dtype != made.dtype:
        return float("inf")
    if expected.dtype.kind not in "iufb" or not expected.size:
        return 0.0 if np.array_equal(expected, made) else float("inf")
    a, b = expected.astype(np.float64), made.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    off = float(np.abs(a - b)[~same].max())
    largest = float(np.abs(a[np.isfinite(a)]).max(initial=0))
    return off / largest if largest and np.isfinite(off) else float("inf")
