"""What a product multiplies its weights by, as rows: one per place of the output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from openbpu.arch.arrays import Array, Float32
from openbpu.arch.onnx_ops import MATRIX_PRODUCTS
from openbpu.quantization.onnx.nodes import attribute


def columns(node: NodeProto, inputs: Sequence[Array], shape: tuple[int, ...], most: int) -> Float32 | None:
    """Return (groups, rows, values that one output sums up), at most `most` rows, evenly from all `inputs`.

    `shape`: of the weights. None for a product that is not understood: ConvTranspose, a padding by name.
    """
    if node.op_type in MATRIX_PRODUCTS:
        length = inputs[0].shape[-1]
        rows = [_thinned(x.reshape(-1, length), most // len(inputs)) for x in inputs]
        return np.concatenate(rows)[None].astype(np.float32)
    if node.op_type != "Conv" or attribute(node, "auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        return None
    per_input = [_patches(node, x, shape, max(most // len(inputs), 1)) for x in inputs]
    return np.concatenate(per_input, axis=1)


def _thinned(rows: Array, most: int) -> Array:
    """Return at most `most` rows, at equal distances."""
    return rows[:: -(-len(rows) // max(most, 1))] if len(rows) else rows


def _patches(node: NodeProto, x: Array, shape: tuple[int, ...], most: int) -> Float32:
    """Return the patches of an input (N, C, …) of a Conv as (groups, rows, C / groups · kernel)."""
    kernel, rank = shape[2:], len(shape) - 2
    pads = attribute(node, "pads", [0] * 2 * rank)
    strides, dilations = attribute(node, "strides", [1] * rank), attribute(node, "dilations", [1] * rank)
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(2, 2 + rank)))
    steps = [slice(None, None, step) for step in (1, 1, *strides, *dilations)]
    views = views[tuple(steps)]  # (N, C, places …, kernel …)
    batch, channels, *places = views.shape[: 2 + rank]
    wanted = _thinned(np.arange(batch * int(np.prod(places))), most)
    at = np.unravel_index(wanted, (batch, *places))
    rows = views.transpose(0, *range(2, 2 + rank), 1, *range(2 + rank, 2 + 2 * rank))[at]
    groups = channels // shape[1]
    flat: Float32 = rows.reshape(len(wanted), groups, -1).transpose(1, 0, 2).astype(np.float32)
    return np.ascontiguousarray(flat)
