"""A float model quantized for a march: what stays on the march's CPU is left float."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.arch.given_shapes import Shapes
from openbpu.arch.march import March
from openbpu.arch.program import Placement
from openbpu.evaluation.closing import Closing, closing
from openbpu.evaluation.left_float import Left, leave_float
from openbpu.quantization.onnx import Choice, QuantConfig, with_node_types
from openbpu.quantization.onnx.groundwork import with_types_of_their_own
from openbpu.quantization.onnx.load import ModelLike


@dataclass(frozen=True, slots=True)
class Quantized:
    """floats: nodes left float for the march · closing: the report, None where quantization made none."""

    model: ModelProto
    choice: Choice
    floats: tuple[str, ...]
    closing: Closing | None


def quantized_for(
    make: Callable[[QuantConfig], tuple[ModelProto, Choice]],
    model: ModelLike,
    config: QuantConfig,
    march: str | March,
    *,
    shapes: Shapes | None = None,
    bpu_ops: Collection[str] = (),
) -> Quantized:
    """Return what `make` quantizes of the float `model`, nodes that stay on the CPU of `march` left float.

    make: quantizes with a config; it is called again while such nodes are found, at most four times ·
    config: what the user asks for, whose types stay · bpu_ops: operators and nodes asked onto the BPU. Raises
    what `make` raises the first time.
    """

    def once(left: Left) -> Quantized:
        quantized, choice = make(with_node_types(config, {DType.FLOAT32: list(left.values())}))
        report = choice.report
        found = None if report is None else closing(report, quantized, march, bpu_ops)
        return Quantized(quantized, choice, tuple(left), found)

    def placed(found: Quantized) -> tuple[ModelProto, tuple[Placement, ...]]:
        return found.model, () if found.closing is None else found.closing.placement

    kept = with_types_of_their_own(model, config, shapes)
    return leave_float(once, placed, kept, {})[0]
