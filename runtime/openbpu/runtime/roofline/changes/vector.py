"""Changes of what the vector engine and int16 cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from openbpu.arch.dtypes import DType
from openbpu.arch.march import with_values
from openbpu.arch.program import (
    Concat,
    Dequantize,
    LayerNorm,
    Lut,
    Move,
    Operator,
    Quantize,
    Rescale,
    Softmax,
)
from openbpu.arch.timing import Costs
from openbpu.runtime.roofline.site import Site


def wide(site: Site, index: int) -> str:
    """Say that int16 slows the layer down."""
    op = site.segment.operators[index]
    if isinstance(op, (Softmax, LayerNorm, Move, Quantize, Dequantize)) or not _int16(site, op):
        return ""
    return "int16 operands take the engines longer: int8"


def _int16(site: Site, op: Operator) -> bool:
    weight = getattr(op, "weight_id", -1)
    ids = (*op.inputs, *op.outputs, *((weight,) if weight >= 0 else ()))
    return any(site.program.tensors[i].dtype is DType.INT16 for i in ids)


def narrow(site: Site) -> list[Costs]:
    """Engines work at the int8 rate, and int16 tensors move half the bytes."""
    m = site.march
    same = {
        "tae.passes_int16_int8": 1,
        "tae.passes_int8_int16": 1,
        "vae.lanes_int16": m.vae.lanes_int8,
        "vae.lut_int16": m.vae.lut_int8,
        "aae.lanes_int16": m.aae.lanes_int8,
    }
    tensors = site.program.tensors

    def shares(constants: bool) -> list[float]:
        found = []
        for op in site.segment.operators:
            ids = [getattr(op, "weight_id", -1)] if constants else [*op.inputs, *op.outputs]
            sizes = [tensors[i].nbytes for i in ids if i >= 0]
            wide = sum(tensors[i].nbytes for i in ids if i >= 0 and tensors[i].dtype is DType.INT16)
            found.append(1 - wide / 2 / sum(sizes) if sum(sizes) else 1.0)
        return found

    weights, maps = np.array(shares(constants=True)), np.array(shares(constants=False))
    by_instruction = [
        np.where(constant, weights[operator], maps[operator])
        for constant, operator in zip(site.constant, site.operator, strict=True)
    ]
    return site.with_transfers(site.priced(march=with_values(m, same)), by_instruction)


def rescales(site: Site, index: int) -> str:
    """Say that a layer only changes the scale."""
    op = site.segment.operators[index]
    if isinstance(op, Concat) and any(op.mults):
        return "the inputs of this Concat have other scales than its output: one scale for all of them"
    if isinstance(op, Rescale) or (isinstance(op, Lut) and _is_line(site, op)):
        return "a pass that only changes the scale: the same scale on both sides"
    return ""


def _is_line(site: Site, op: Lut) -> bool:
    """Whether a table is a straight line, up to rounding and clamping at its ends."""
    table = site.program.constant(op.table_id).astype(np.float64)
    inner = np.flatnonzero((table > table.min()) & (table < table.max()))
    if len(inner) < 3:
        return False
    slope, start = np.polyfit(inner, table[inner], 1)
    line = np.clip(start + slope * np.arange(len(table)), table.min(), table.max())
    return bool(np.abs(table - line).max() <= 1)


def table(site: Site, index: int) -> str:
    """Say that a function could be part of another layer."""
    op = site.segment.operators[index]
    if not isinstance(op, Lut) or _is_line(site, op):
        return ""
    return "a function with a pass of its own: Relu, or an input with no other reader, fuses with its maker"


def softmax(site: Site, index: int) -> str:
    """Say how large the rows of a softmax are."""
    op = site.segment.operators[index]
    if not isinstance(op, Softmax):
        return ""
    rows, length = op.shape
    return f"softmax on VAE, {rows} rows of {length}: rows half as long (keys and values pooled by 2)"


def half_rows(site: Site) -> list[Costs]:
    """The rows of every softmax are half as long."""

    def half(op: Operator) -> Operator:
        return replace(op, shape=(op.shape[0], -(-op.shape[1] // 2))) if isinstance(op, Softmax) else op

    return site.priced(operators=[half(op) for op in site.segment.operators])


def norm(site: Site, index: int) -> str:
    """Say that a normalization of rows could be one that folds."""
    is_norm = isinstance(site.segment.operators[index], LayerNorm)
    return (
        "normalization of rows on VAE: BatchNormalization, which folds into a convolution" if is_norm else ""
    )
