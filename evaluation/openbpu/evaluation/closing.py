"""The closing report of `openbpu quantize`: how close the result is, and where its nodes will run."""

from __future__ import annotations

from collections.abc import Collection
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


def closing(
    report: Report, quantized: ModelProto, march: str | March, bpu_ops: Collection[str] = ()
) -> Closing:
    """Return the report with the placement of `quantized`, or with the reason why it has none.

    bpu_ops: operators and nodes asked onto the BPU; those that the model does not have are passed over.
    """
    name = march if isinstance(march, str) else march.name
    there = {n for node in quantized.graph.node for n in (node.name, node.op_type)}
    wishes = [wish for wish in bpu_ops if wish in there]
    try:
        return Closing(report, name, check(quantized, march=march, bpu_ops=wishes))
    except OpenbpuError as error:
        return Closing(report, name, (), str(error))
