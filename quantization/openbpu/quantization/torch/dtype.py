"""The quantized dtypes of a QTensor, and their integer ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import must


@dataclass(frozen=True, slots=True)
class QDType:
    """A quantized dtype: printed by its name, e.g. `qint16`; `storage` is the integer type behind it."""

    name: str
    storage: DType

    @property
    def min(self) -> int:
        """Smallest integer."""
        return self.storage.qmin

    @property
    def max(self) -> int:
        """Largest integer."""
        return self.storage.qmax

    @property
    def bits(self) -> int:
        """Width of one integer in bits."""
        return 8 * self.storage.nbytes

    @property
    def is_floating_point(self) -> bool:
        """False, as for the integer dtypes of torch."""
        return False

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        return self.name  # a module global: copies and loads are the same object


qint8 = QDType("qint8", DType.INT8)
qint16 = QDType("qint16", DType.INT16)
qint32 = QDType("qint32", DType.INT32)
DTYPES = {d.name: d for d in (qint8, qint16, qint32)}


@dataclass(frozen=True, slots=True)
class qinfo:  # noqa: N801 - the spelling of torch.iinfo
    """Range of a quantized dtype, as `torch.iinfo` gives it for integers."""

    dtype: QDType

    @property
    def min(self) -> int:
        """Smallest integer."""
        return self.dtype.min

    @property
    def max(self) -> int:
        """Largest integer."""
        return self.dtype.max

    @property
    def bits(self) -> int:
        """Width of one integer in bits."""
        return self.dtype.bits


def as_qdtype(dtype: Any) -> QDType:
    """Return the dtype named `dtype` (or torch's own), or `dtype` itself; raises ValueError."""
    if isinstance(dtype, QDType):
        return dtype
    word = str(dtype).removeprefix("torch.")
    name = word if word.startswith("q") else f"q{word}"
    if name not in DTYPES:
        fix = "the units of every march are modelled in integers: use qint16" if word in _HALVES else ""
        raise ValueError(must("a quantizer", "dtype", f"one of {', '.join(DTYPES)}", word, fix))
    return DTYPES[name]


_HALVES = frozenset({"float16", "half", "bfloat16"})
