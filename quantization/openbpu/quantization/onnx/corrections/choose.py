"""Which corrections are wanted, and what each of them won."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openbpu.quantization.onnx.samples import Feed

EVERY = 4
"""Of so many samples one is held out."""

HELD_OUT = 16
"""Samples that are held out, at most."""


@dataclass(frozen=True, slots=True)
class Corrections:
    """Which corrections `quantize` tries; what makes outputs worse on held-out samples is left out.

    bias_correction: None: where there are samples to hold out that judge it, and it reaches all it needs.
    """

    equalisation: bool = False
    adaptive_rounding: bool = False
    bias_correction: bool | None = None

    def tries_biases(self, samples: int) -> bool:
        """Whether biases are corrected where there are so many calibration samples."""
        return samples >= EVERY if self.bias_correction is None else self.bias_correction


@dataclass(frozen=True, slots=True)
class Correction:
    """What a correction won: mean cosine of the outputs to the float model's, without it and with it.

    `changed`: layers (or pairs of layers) that it changed. `samples`: those it was judged on; `held_out`:
    whether it was made without them. `kept`: whether the result has it, since its errors shrank by more than
    chance.
    """

    name: str
    before: float
    after: float
    changed: int
    samples: int
    held_out: bool
    kept: bool

    @property
    def sentence(self) -> str:
        """What to tell."""
        if not self.changed:
            return f"{self.name}: nothing to change"
        where = f"{self.samples} {'held-out' if self.held_out else 'calibration'} samples"
        done = "" if self.kept else "; left out"
        cosines = f"mean cosine of the outputs {self.before:.6f} → {self.after:.6f}"
        return f"{self.name} ({self.changed} layers): {cosines} on {where}{done}"


def split(feeds: Sequence[Feed]) -> tuple[list[Feed], list[Feed], bool]:
    """Return samples to correct by, samples to judge by, and whether these are others.

    Every fourth is held out; of fewer than four none, and the same serve for both.
    """
    judged = list(feeds[EVERY - 1 :: EVERY])[:HELD_OUT]
    if not judged:
        return list(feeds), list(feeds), False
    return [feed for n, feed in enumerate(feeds) if n % EVERY != EVERY - 1], judged, True
