"""Keywords that callers give: the unknown are refused by name, nothing asked for is dropped in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from openbpu.arch.errors import must
from openbpu.quantization.torch.dtype import QDType


def refuse_unknown(where: str, given: Mapping[str, Any], allowed: Iterable[str]) -> None:
    """Raise TypeError when a keyword is given that is not among the allowed ones."""
    unknown = sorted(set(given) - set(allowed))
    if unknown:
        listed = ", ".join(sorted(allowed)) or "none here"
        raise TypeError(must(where, "keywords", f"among {listed}", ", ".join(unknown), "leave them out"))


_SYMMETRIC = frozenset({"per_tensor_symmetric", "per_channel_symmetric"})
_WITHOUT_EFFECT = frozenset(
    {"eps", "factory_kwargs", "is_dynamic", "is_sync_quantize", "saturate", "memoryless"}
)
"""Of torch and the plugin: scales are the same on every rank, and codes saturate, in any case."""


def check_grid(where: str, dtype: QDType, given: Mapping[str, Any]) -> None:
    """Check what torch and the plugin say of a grid, which here follows from the dtype.

    Raises TypeError for unknown keywords, ValueError for a grid that the BPU does not have.
    """
    refuse_unknown(where, given, _WITHOUT_EFFECT | {"quant_min", "quant_max", "qscheme", "reduce_range"})
    for name, least in (("quant_min", dtype.min), ("quant_max", dtype.max)):
        allowed = {least, -dtype.max} if name == "quant_min" else {least}
        if given.get(name) is not None and given[name] not in allowed:
            raise ValueError(must(where, name, f"{least}, that of {dtype}", given[name]))
    scheme = str(given.get("qscheme", "per_tensor_symmetric")).removeprefix("torch.")
    if scheme not in _SYMMETRIC:
        fix = "the BPU's zero points are 0"
        raise ValueError(must(where, "qscheme", " or ".join(sorted(_SYMMETRIC)), scheme, fix))
    if given.get("reduce_range"):
        raise ValueError(must(where, "reduce_range", "False", True, "the BPU's sums have 32 bits"))
