"""QconfigSetter: a reference QConfig, and templates that change dtypes and thresholds of some modules."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from openbpu.arch.errors import must
from openbpu.quantization.torch.dtype import QDType, as_qdtype, qint8, qint16
from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.keywords import refuse_unknown
from openbpu.quantization.torch.observers import FixedScaleObserver, MSEObserver
from openbpu.quantization.torch.qconfig import QConfig, changed, fake_quant, weight_fake_quant
from openbpu.quantization.torch.setters import Place, inside, most_sensitive

_FLOAT = ("torch.float32", "torch.float", "float32")
_SIDES = ("input", "weight", "output")


@dataclass(slots=True)
class Wanted:
    """What templates want of a module: dtypes by "input", "weight" and "output", and thresholds of the ends.

    A dtype None is high precision; that of the input may be a list with one for each.
    """

    dtypes: dict[str, Any] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)


Template = Callable[[Place, Wanted], None]


def _dtype(value: Any, where: str) -> Any:
    """A QDType, None for float32, or a list of them; raises PrepareError for what is no grid here."""
    if isinstance(value, (list, tuple)):
        return [_dtype(v, where) for v in value]
    if value is None or str(value) in _FLOAT:
        return None
    try:
        return as_qdtype(value)
    except ValueError as error:
        raise PrepareError(f"{where}: {error}") from error


@dataclass(frozen=True)
class ModuleNameTemplate:
    """Dtypes by module path; a container's name holds for all in it, the longest name wins.

    A value is the dtype of the result, or {"dtype", "threshold", "input", "weight", "output"}. "dtype" and
    "threshold" may themselves be {"input", "weight", "output"}; a threshold is the largest value: the scale
    is threshold / 128 (qint8) or / 32768 (qint16). freeze: later templates change nothing of these modules.
    When a model is prepared it raises PrepareError for a value that is none of these, float16 among them.
    """

    names: Mapping[str, Any]
    freeze: bool = False

    def __call__(self, place: Place, wanted: Wanted) -> None:
        """Add to `wanted`."""
        found = [name for name in self.names if inside(place.path, name)]
        if found:
            name = max(found, key=len)
            asked = _parsed(name, self.names[name])
            wanted.dtypes.update(asked.dtypes)
            wanted.thresholds.update(asked.thresholds)


def _parsed(name: str, value: Any) -> Wanted:
    where = f"ModuleNameTemplate '{name}'"
    if not isinstance(value, Mapping):
        return Wanted({"output": _dtype(value, where)})
    refuse_unknown(where, value, {*_SIDES, "dtype", "threshold"})
    asked = {k: v for k, v in value.items() if k in _SIDES}
    dtype, threshold = value.get("dtype", {}), value.get("threshold")
    asked.update(dtype if isinstance(dtype, Mapping) else {"output": dtype})
    limits = threshold if isinstance(threshold, Mapping) else {"output": threshold}
    refuse_unknown(where, asked, _SIDES)
    refuse_unknown(f"{where}, threshold", limits, ("input", "output"))
    for limit in limits.values():
        if limit is not None and not (isinstance(limit, (int, float)) and 0 < limit < float("inf")):
            raise PrepareError(must(where, "threshold", "a number above 0", repr(limit)))
    given = {k: float(v) for k, v in limits.items() if v is not None}
    return Wanted({k: _dtype(v, where) for k, v in asked.items()}, given)


@dataclass(frozen=True, slots=True)
class ConvDtypeTemplate:
    """Dtypes of convolutions and linear layers."""

    input_dtype: QDType | None = None
    weight_dtype: QDType = qint8

    def __call__(self, place: Place, wanted: Wanted) -> None:
        """Add to `wanted`."""
        if place.kind == "weighted":
            wanted.dtypes["weight"] = _dtype(self.weight_dtype, "ConvDtypeTemplate")
            if self.input_dtype is not None:
                wanted.dtypes["input"] = _dtype(self.input_dtype, "ConvDtypeTemplate")


@dataclass(frozen=True, slots=True)
class MatmulDtypeTemplate:
    """Dtypes of matrix products of two activations: one for both operands or one each, and of the result."""

    input_dtypes: QDType | Sequence[QDType] | None = None
    output_dtype: QDType | None = None

    def __call__(self, place: Place, wanted: Wanted) -> None:
        """Add to `wanted`."""
        if place.kind not in {"matmul", "bmm"}:
            return
        for side, asked in (("input", self.input_dtypes), ("output", self.output_dtype)):
            if asked is not None:
                wanted.dtypes[side] = _dtype(asked, "MatmulDtypeTemplate")


@dataclass(frozen=True, slots=True)
class SensitivityTemplate:
    """A higher precision for the most sensitive rows of a table: `topk_or_ratio` rows, or that share below 1.

    sensitive_type: "activation", "weight" or "both", which rows count. A weight of high precision has an
    input of low precision: the BPU multiplies no int16 by int16.
    """

    sensitive_table: Sequence[Sequence[Any]]
    topk_or_ratio: int | float = 1.0
    sensitive_type: str = "both"
    low_precision_dtype: QDType = qint8
    high_precision_dtype: QDType = qint16

    def __post_init__(self) -> None:
        if self.sensitive_type not in {"activation", "weight", "both"}:
            allowed = '"activation", "weight" or "both"'
            raise PrepareError(
                must("SensitivityTemplate", "sensitive_type", allowed, repr(self.sensitive_type))
            )

    @property
    def names(self) -> Mapping[str, set[str]]:
        """The modules that it speaks of, and what of them is sensitive."""
        kinds = {"activation", "weight"} if self.sensitive_type == "both" else {self.sensitive_type}
        rows = [row for row in self.sensitive_table if str(row[1]) in kinds]
        share = self.topk_or_ratio
        if not isinstance(share, int) and share <= 1:
            return most_sensitive(rows, None, share)
        return most_sensitive(rows, int(share), None)

    def __call__(self, place: Place, wanted: Wanted) -> None:
        """Add to `wanted`."""
        kinds = self.names.get(place.path, set())
        high, low = (
            _dtype(d, "SensitivityTemplate") for d in (self.high_precision_dtype, self.low_precision_dtype)
        )
        if "activation" in kinds:
            wanted.dtypes["output"] = high
        if "weight" in kinds:
            wanted.dtypes.update(weight=high, input=low)


class QconfigSetter:
    """A reference QConfig (observers) and templates that change dtypes, later ones over earlier ones.

    save_dir: a folder that `prepare` writes its two reports to. enable_optimize: accepted; what only moves
    values keeps dtype and scale in any case.
    """

    def __init__(
        self,
        reference_qconfig: QConfig,
        templates: Sequence[Template] = (),
        enable_optimize: bool = True,
        save_dir: str | os.PathLike[str] | None = None,
        enable_high_precision_output: bool = True,
    ) -> None:
        del enable_optimize
        frozen = [t for t in templates if getattr(t, "freeze", False)]
        self.reference = reference_qconfig
        self.templates = (*(t for t in templates if t not in frozen), *reversed(frozen))
        self.save_dir, self.high_precision = save_dir, enable_high_precision_output

    def __call__(self, place: Place) -> QConfig:
        """The reference QConfig with the dtypes and thresholds that the templates want."""
        wanted = Wanted()
        if self.high_precision and place.is_output and place.kind == "weighted":
            wanted.dtypes["output"] = None
        for template in self.templates:
            template(place, wanted)
        return _applied(self.reference, wanted)


def _applied(reference: QConfig, wanted: Wanted) -> QConfig:
    chosen, dtypes, limits = reference, wanted.dtypes, wanted.thresholds
    if "output" in dtypes or "output" in limits:
        factory = chosen.activation
        if "output" in dtypes:
            factory = _with_dtype(factory, dtypes["output"])
        chosen = replace(chosen, activation=_with_limit(factory, limits.get("output")))
    if dtypes.get("weight") is not None:
        chosen = replace(chosen, weight=weight_fake_quant(dtypes["weight"]))
    if dtypes.get("input") is not None or "input" in limits:
        asked = dtypes.get("input") or qint8
        each = [
            _with_limit(_with_dtype(reference.activation, d), limits.get("input"))
            for d in (asked if isinstance(asked, list) else [asked])
        ]
        chosen = replace(chosen, input=tuple(each) if isinstance(asked, list) else each[0])
    return chosen


def _with_dtype(factory: Any, dtype: QDType | None) -> Any:
    """The same factory for another dtype; None stays high precision."""
    if dtype is None:
        return None
    return fake_quant(MSEObserver, dtype) if factory is None else changed(factory, dtype=dtype)


def _with_limit(factory: Any, limit: float | None) -> Any:
    """The same factory with the scale of a largest value."""
    if limit is None:
        return factory
    dtype = qint8 if factory is None else as_qdtype(factory.keywords["dtype"])
    return fake_quant(FixedScaleObserver, dtype, scale=limit / (dtype.max + 1))
