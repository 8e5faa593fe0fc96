"""How published networks were built, where that is known: `fidelity.py` compiles every row as it was built.

From `../shared/latency/builds.csv`, which says where it is from. A published configuration may not be exactly
the one that was measured; where it names some nodes only, the row is `certain = False`, has the build that
its latency fits best and weighs less in a fit: its error says nothing. That the Gelu of tokens was left to
the CPU is inferred: X5 has no unit for Erf, and EfficientFormer l1 and l3, which alone have one, take 1.3 ms
more for each than all else. What is not named here was built as this project would: int8, Softmax where the
march has it by default. Rows that two threads did not saturate say nothing of a frame.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from openbpu.arch.dtypes import DType


@dataclass(frozen=True, slots=True)
class Build:
    """activation: of all nodes · softmax: what Softmax reads · bpu_ops: put on the BPU against the default ·
    on_cpu: operators that were left to the CPU where they compute tokens (three axes) ·
    certain: whether a source names the whole build · saturated: whether the time per frame is one.
    """

    activation: DType = DType.INT8
    softmax: DType | None = None
    bpu_ops: tuple[str, ...] = ()
    on_cpu: tuple[str, ...] = ()
    certain: bool = True
    saturated: bool = True

    @property
    def key(self) -> str:
        """What tells the files of two builds of a network apart; empty for the default one."""
        wide = f"softmax-{self.softmax.value}" if self.softmax else ""
        parts = (
            self.activation.value if self.activation is not DType.INT8 else "",
            wide,
            *self.bpu_ops,
            *self.on_cpu,
        )
        return "-".join(p for p in parts if p)


DEFAULT = Build()
_ON_BPU = ("Softmax",)
_ATTENTION = Build(bpu_ops=_ON_BPU)
_WIDE = Build(DType.INT16, bpu_ops=_ON_BPU)
_WIDE_SOFTMAX = Build(softmax=DType.INT16, bpu_ops=_ON_BPU)
_NOT_SATURATED = ((r"Mobilenetv4_conv_small", Build(saturated=False)),)
_BUILDS: dict[str, tuple[tuple[str, Build], ...]] = {
    **dict.fromkeys(("nash-e", "nash-m", "nash-p"), _NOT_SATURATED),
    "bayes-e": (
        (r"YOLO.*", _ATTENTION),
        (r"EdgeNeXt_.*", _WIDE_SOFTMAX),
        (r"EfficientFormer_l[13]", replace(_WIDE, on_cpu=("Erf",))),
        (r"EfficientFormerv2_s0", _WIDE),
        (r"EfficientFormerv2_s2", _WIDE_SOFTMAX),
        (r"FastViT_SA?12", replace(_WIDE, certain=False)),
        (r"FastViT_.*", Build(certain=False)),
    ),
}


def build_of(model: str, march: str) -> Build:
    """Return how the published network was built for a march."""
    found = (build for name, build in _BUILDS.get(march, ()) if re.fullmatch(name, model))
    return next(found, DEFAULT)
