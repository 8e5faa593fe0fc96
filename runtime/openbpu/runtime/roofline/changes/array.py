"""Changes of convolutions and matrix products: whole blocks of lanes, smaller kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from openbpu.arch import isa
from openbpu.arch.definition.instruction import rows_as_bytes
from openbpu.arch.program import Conv, MatMul, Operator
from openbpu.arch.timing import Costs
from openbpu.runtime.roofline.changes.base import with_weights
from openbpu.runtime.roofline.site import Site


def input_lanes(site: Site, index: int) -> str:
    """Say how many lanes a Conv's input channels or a MatMul's inner size leave idle."""
    op, lanes = site.segment.operators[index], site.march.tae.input_lanes
    if isinstance(op, Conv) and op.groups == 1:
        return _lanes("input channels", op.x_shape[3], lanes)
    return _lanes("inner size", op.k, lanes) if isinstance(op, MatMul) else ""


def output_lanes(site: Site, index: int) -> str:
    """Say how many lanes a Conv's output channels leave idle."""
    op, lanes = site.segment.operators[index], site.march.tae.output_lanes
    return _lanes("output channels", op.y_shape[3], lanes) if isinstance(op, Conv) and op.groups == 1 else ""


def _lanes(what: str, size: int, lanes: int) -> str:
    blocks, rest = -(-size // lanes), size % lanes
    if blocks == 1 or not rest:
        return ""
    used = size / (blocks * lanes)
    return f"{size} {what} take {blocks} blocks of {lanes} lanes ({used:.0%} used): {size - rest} {what}"


def fewer_inputs(site: Site) -> list[Costs]:
    """Input channels and inner sizes are cut to whole blocks of lanes."""
    lanes = site.march.tae.input_lanes

    def fewer(op: Operator) -> Operator:
        if isinstance(op, Conv) and op.groups == 1:
            return replace(op, x_shape=(*op.x_shape[:3], _floor(op.x_shape[3], lanes)))
        return replace(op, k=_floor(op.k, lanes)) if isinstance(op, MatMul) else op

    def share(op: Operator) -> float:
        if isinstance(op, Conv):
            return _floor(op.x_shape[3], lanes) / op.x_shape[3] if op.groups == 1 else 1.0
        return _floor(op.k, lanes) / op.k if isinstance(op, MatMul) else 1.0

    return with_weights(site, site.priced(operators=[fewer(o) for o in site.segment.operators]), share)


def fewer_outputs(site: Site) -> list[Costs]:
    """Output channels are cut to whole blocks of lanes."""
    lanes, operators = site.march.tae.output_lanes, site.segment.operators
    kept = np.array([_kept(o, lanes) for o in operators])
    codes, empty = [], []
    for code in site.segment.code:
        where = np.flatnonzero(isa.headers(code)["opcode"] == isa.ConvTile.OPCODE)
        rows = np.ascontiguousarray(code[where]).view(isa.RECORDS[isa.ConvTile])[:, 0].copy()
        left = kept[rows["operator"]] - rows["oc_start"].astype(np.int64)
        rows["out_c"] = np.clip(np.minimum(rows["out_c"], left), 1, None)
        changed = code.copy()
        changed[where] = rows_as_bytes(rows)
        codes.append(changed)
        empty.append(where[left <= 0])
    costs = site.priced(code=codes)
    for c, where in zip(costs, empty, strict=True):
        c.cycles[where] = 0

    def share(op: Operator) -> float:
        return (
            _floor(op.y_shape[3], lanes) / op.y_shape[3] if isinstance(op, Conv) and op.groups == 1 else 1.0
        )

    return with_weights(site, costs, share)


def _kept(op: Operator, lanes: int) -> int:
    if not isinstance(op, Conv):
        return 0
    return _floor(op.y_shape[3], lanes) if op.groups == 1 else op.y_shape[3]


def _floor(size: int, lanes: int) -> int:
    return max(size // lanes * lanes, min(size, lanes))


def kernel(site: Site, index: int) -> str:
    """Say what a smaller kernel would be, where it is 5 or more."""
    op = site.segment.operators[index]
    if not isinstance(op, Conv) or max(op.kernel) < 5:
        return ""
    return f"kernel {_by(op.kernel)}: {_by(_smaller(op.kernel))}"


def _by(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _smaller(kernel: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(k - 2 if k >= 5 else k for k in kernel)


def small_kernels(site: Site) -> list[Costs]:
    """Kernel sides of 5 and more shrink by 2."""

    def smaller(op: Operator) -> Operator:
        return replace(op, kernel=_smaller(op.kernel)) if isinstance(op, Conv) else op

    def share(op: Operator) -> float:
        return float(np.prod(_smaller(op.kernel)) / np.prod(op.kernel)) if isinstance(op, Conv) else 1.0

    return with_weights(site, site.priced(operators=[smaller(o) for o in site.segment.operators]), share)
