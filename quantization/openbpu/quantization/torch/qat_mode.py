"""What happens in training to a BatchNorm that is fused: a process-wide choice, as the vendor has it."""

from __future__ import annotations

from enum import Enum
from typing import Any

from openbpu.arch.errors import must


class QATMode(str, Enum):
    """Of a convolution and the BatchNorm behind it.

    FuseBN: `prepare` folds the running statistics into weight and bias, which train on. WithBN,
    WithBNReverseFold: the BatchNorm trains on its batches; the weight is rounded as the folded one is.
    """

    FuseBN = "fuse_bn"
    WithBN = "with_bn"
    WithBNReverseFold = "with_bn_reverse_fold"


_chosen = [QATMode.WithBNReverseFold]


def set_qat_mode(mode: QATMode | str) -> None:
    """Choose for the models that are prepared from now on; raises ValueError for another mode."""
    given: Any = mode
    if given not in list(QATMode):
        allowed = ", ".join(f"QATMode.{m.name}" for m in QATMode)
        raise ValueError(must("set_qat_mode", "mode", f"one of {allowed}", repr(mode)))
    _chosen[:] = [QATMode(given)]


def get_qat_mode() -> QATMode:
    """Return the mode; WithBNReverseFold until another one is chosen."""
    return _chosen[0]
