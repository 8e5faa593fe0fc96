"""Setters: who decides which QConfig a module gets when a model is prepared.

A setter is a function of a `Place`. It returns a QConfig, None (leave the module in float), or PASS: then the
next setter is asked. `prepare(…, qconfig_setter=(first, second))` takes the first answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from openbpu.quantization.torch.dtype import QDType, qint8, qint16
from openbpu.quantization.torch.observers import MovingAverageMinMaxObserver, MSEObserver, Observer
from openbpu.quantization.torch.qconfig import QConfig, fake_quant, weight_fake_quant


class Pass(Enum):
    """The answer of a setter that has no opinion."""

    PASS = "pass"  # noqa: S105 - no password


PASS = Pass.PASS
Answer = QConfig | None | Pass


@dataclass(frozen=True, slots=True)
class Place:
    """A module that wants a QConfig: its path, itself, what it computes, and whether its result leaves.

    `is_output`: only DeQuantStubs read the result, so a convolution or linear layer may keep
    high precision.
    """

    path: str
    module: Any
    kind: str
    is_output: bool = False


Setter = Callable[[Place], Answer]


@dataclass(frozen=True, slots=True)
class DefaultSetter:
    """One answer for all: dtypes, observer; last convolutions and linear layers keep high precision.

    fixed: whether training keeps the scales that calibration found.
    """

    activation: QDType
    weight: QDType
    observer: type[Observer]
    calibration: bool
    fixed: bool = False

    def __call__(self, place: Place) -> QConfig:
        """The answer for one module."""
        raw = place.is_output and place.kind == "weighted"
        return QConfig(
            activation=None if raw else self._of_results(),
            weight=weight_fake_quant(self.weight),
            calibration=self.calibration,
        )

    def _of_results(self) -> Any:
        kept = {"fix_scale": True} if self.fixed else {}
        return fake_quant(self.observer, self.activation, **kept)


default_calibration_qconfig_setter = DefaultSetter(qint8, qint8, MSEObserver, calibration=True)
default_qat_qconfig_setter = DefaultSetter(qint8, qint8, MovingAverageMinMaxObserver, calibration=False)
calibration_8bit_weight_16bit_act_qconfig_setter = DefaultSetter(qint16, qint8, MSEObserver, calibration=True)
qat_8bit_weight_16bit_act_qconfig_setter = DefaultSetter(
    qint16, qint8, MovingAverageMinMaxObserver, calibration=False
)
default_qat_fixed_act_qconfig_setter = replace(default_qat_qconfig_setter, fixed=True)
qat_8bit_weight_16bit_fixed_act_qconfig_setter = replace(qat_8bit_weight_16bit_act_qconfig_setter, fixed=True)


@dataclass(frozen=True, slots=True)
class ModuleNameQconfigSetter:
    """QConfigs by module path; a container's name holds for everything in it, the longest name wins."""

    names: Mapping[str, QConfig | None]

    def __call__(self, place: Place) -> Answer:
        """The QConfig of the longest name that holds for the module."""
        found = [name for name in self.names if inside(place.path, name)]
        return self.names[max(found, key=len)] if found else PASS


def inside(path: str, name: str) -> bool:
    """Whether a module is the one of that name or stands in it; everything stands in ""."""
    return path == name or path.startswith(f"{name}.") or not name


# --- sensitivity ------------------------------------------------------------------------------------------


def most_sensitive(table: Any, topk: int | None, ratio: float | None) -> dict[str, set[str]]:
    """Module path → {"activation", "weight"} of the first rows of a sensitivity table.

    `table` is a sequence of rows (op_name, sensitive_type, …), the most sensitive first.
    """
    rows = list(table)
    if ratio is not None:
        topk = round(len(rows) * ratio)
    found: dict[str, set[str]] = {}
    for row in rows[:topk]:
        found.setdefault(str(row[0]), set()).add(str(row[1]))
    return found


@dataclass(frozen=True, slots=True)
class SensitiveSetter:
    """int16 for the most sensitive operators; it has no opinion on the others."""

    sensitive: Mapping[str, set[str]]
    base: DefaultSetter

    @property
    def names(self) -> Mapping[str, set[str]]:
        """The modules that it speaks of."""
        return self.sensitive

    def __call__(self, place: Place) -> Answer:
        """int16 for a sensitive module."""
        kinds = self.sensitive.get(place.path)
        if kinds is None:
            return PASS
        chosen = self.base(place)
        if "weight" in kinds and place.kind == "weighted":
            # Input and weight cannot both be int16: the input goes back to int8.
            return replace(
                chosen, weight=weight_fake_quant(qint16), input=fake_quant(self.base.observer, qint8)
            )
        return chosen


def sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter(
    table: Sequence[Sequence[Any]], topk: int | None = None, ratio: float | None = None
) -> SensitiveSetter:
    """int16 for the `topk` (or the share `ratio`) most sensitive rows of a sensitivity table."""
    return SensitiveSetter(
        most_sensitive(table, topk, ratio), calibration_8bit_weight_16bit_act_qconfig_setter
    )


def sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter(
    table: Sequence[Sequence[Any]], topk: int | None = None, ratio: float | None = None
) -> SensitiveSetter:
    """As the calibration setter of that name, with the observers of QAT."""
    return SensitiveSetter(most_sensitive(table, topk, ratio), qat_8bit_weight_16bit_act_qconfig_setter)


def sensitive_op_qat_8bit_weight_16bit_fixed_act_qconfig_setter(
    table: Sequence[Sequence[Any]], topk: int | None = None, ratio: float | None = None
) -> SensitiveSetter:
    """As the QAT setter of that name; training keeps the scales of results."""
    return SensitiveSetter(most_sensitive(table, topk, ratio), qat_8bit_weight_16bit_fixed_act_qconfig_setter)


def first_answer(setters: Sequence[Setter], place: Place) -> QConfig | None:
    """The first answer that is not PASS; the calibration default when all pass."""
    for setter in setters:
        answer = setter(place)
        if answer is not PASS:
            return answer
    return default_calibration_qconfig_setter(place)
