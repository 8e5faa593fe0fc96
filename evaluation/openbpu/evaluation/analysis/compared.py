"""The float model, the quantized one and maybe the binary: read, checked against each other, matched."""

from __future__ import annotations

from openbpu.arch.given_shapes import Shapes
from openbpu.arch.hbm import Source
from openbpu.arch.program import Program
from openbpu.evaluation.analysis.binary import Binary
from openbpu.evaluation.analysis.cut import Graph, Kind, check_same_inputs
from openbpu.evaluation.analysis.units import Match, match
from openbpu.quantization.onnx.load import ModelLike
from openbpu.quantization.onnx.samples import Calibration, Feed, feeds_of
from openbpu.runtime import Session

SAMPLES = 16
"""Samples that are run where nobody says how many."""


class Compared:
    """Two models that belong together, and maybe the binary, ready to be compared on samples.

    model, quantized: paths or ModelProtos · hbm: a session, or what makes one. What is wrong with them is
    said at once: ModelError, InputError, HbmError.
    """

    def __init__(
        self,
        model: ModelLike,
        quantized: ModelLike,
        hbm: Session | Program | Source | None = None,
        *,
        shapes: Shapes | None = None,
        threads: int = 1,
    ) -> None:
        self.float = Graph(model, _called(model, "the float model"), shapes, threads)
        self.quantized = Graph(quantized, _called(quantized, "the quantized model"), shapes, threads)
        check_same_inputs(self.float, self.quantized)
        self.hbm = _called(hbm, "the binary") if hbm is not None else ""
        session = hbm if hbm is None or isinstance(hbm, Session) else Session(hbm, threads=threads)
        self.binary = None if session is None else Binary(session, self.quantized)

    def feeds(self, data: Calibration, samples: int | None) -> tuple[list[Feed], int]:
        """Return the first samples, at most `samples`, and how many there are; raises InputError."""
        feeds = feeds_of(data, self.quantized.inputs)  # at least as narrow as those of the float model
        return feeds[: samples or SAMPLES], len(feeds)

    def spread(self, data: Calibration, samples: int | None) -> tuple[list[Feed], int]:
        """Return as many samples at equal distances: those of one kind often stand together."""
        feeds = feeds_of(data, self.quantized.inputs)
        most = min(samples or SAMPLES, len(feeds))
        return [feeds[k * len(feeds) // most] for k in range(most)], len(feeds)

    def matched(self, feed: Feed) -> tuple[Match, dict[str, Kind], dict[str, Kind]]:
        """Return what the models have in common, and the tensors of both; raises ModelError."""
        kinds, found = self.float.kinds(feed), self.quantized.kinds(feed)
        fed = {v.name: Kind(v.type.tensor_type.elem_type, feed[v.name].shape) for v in self.float.inputs}
        return match(self.float, self.quantized, kinds | fed, found | fed), kinds | fed, found | fed


def _called(model: object, fallback: str) -> str:
    return fallback if not isinstance(model, str) and not hasattr(model, "__fspath__") else str(model)
