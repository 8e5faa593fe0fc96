"""The closing report of `openbpu quantize`: how close the result is, and where its nodes will run."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto

from openbpu.arch.errors import OpenbpuError
from openbpu.arch.march import March
from openbpu.arch.program import Placement
from openbpu.compiler import check
from openbpu.quantization.onnx import Finding, InputLook, RangeUse, Report

__all__ = ["Closing", "Finding", "InputLook", "RangeUse", "Report", "closing"]


@dataclass(frozen=True, slots=True)
class Closing:
    """report: of the quantization · placement: of the result on `march`, as `openbpu check` has it.

    refused: why there is no placement, as where an axis is free; "" where there is one.
    """

    report: Report
    march: str
    placement: tuple[Placement, ...]
    refused: str = ""


def closing(report: Report, quantized: ModelProto, march: str | March) -> Closing:
    """Return the report with the placement of `quantized`, or with the reason why it has none."""
    name = march if isinstance(march, str) else march.name
    try:
        return Closing(report, name, check(quantized, march=march))
    except OpenbpuError as error:
        return Closing(report, name, (), str(error))
