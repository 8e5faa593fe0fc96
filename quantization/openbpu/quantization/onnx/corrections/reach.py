"""What corrections reach: before any is tried, what a model's structure allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from onnx import NodeProto

from openbpu.arch.onnx_ops import PRODUCTS
from openbpu.quantization.onnx.corrections.equalise import junctions
from openbpu.quantization.onnx.corrections.layers import output_axis
from openbpu.quantization.onnx.corrections.rounding import LONGEST
from openbpu.quantization.onnx.load import ModelLike
from openbpu.quantization.onnx.nodes import attribute
from openbpu.quantization.onnx.opset import OPSET_PER_CHANNEL
from openbpu.quantization.onnx.prepare import prepare


def equalised_tensors(model: ModelLike) -> frozenset[str]:
    """Return the tensors of a float model whose channels equalisation may scale; raises as `quantize`."""
    found = junctions(prepare(model, OPSET_PER_CHANNEL))
    return frozenset(name for junction in found for name in junction.way)


def corrections_of_weights(
    product: NodeProto, shape: tuple[int, ...], readers: Sequence[NodeProto]
) -> Iterator[str]:
    """Yield the options of `openbpu quantize` that may change what weights of this `shape` add.

    `readers`: of its result.
    """
    if product.op_type not in PRODUCTS or output_axis(product, len(shape)) is None:
        return
    named = attribute(product, "auto_pad", "NOTSET") not in {"NOTSET", "VALID"}
    summed = prod(shape) // max(shape[output_axis(product, len(shape)) or 0], 1)
    if product.op_type != "ConvTranspose" and not named and summed <= LONGEST:
        yield "--adaptive-rounding"
    if product.op_type != "MatMul" or [reader.op_type for reader in readers] == ["Add"]:
        yield "--bias-correction"
