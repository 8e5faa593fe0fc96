"""Operators that move codes: reshapes, transposes, slices, pads, gathers, expansions, depth and space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.program import Gather, Move, Pad
from openbpu.arch.shapes import Ints, around, broadcast_strides, dense_strides
from openbpu.compiler.ir import Array, Node
from openbpu.compiler.ir.dialect import Builder, form, operand
from openbpu.compiler.ops.advice import not_constant
from openbpu.compiler.ops.mechanical import CROP, TABLE
from openbpu.compiler.ops.moving import gather_axis, intermediate, source_codes
from openbpu.compiler.ops.resize import RESIZE_LIMITS, lower_resize
from openbpu.compiler.ops.rule import Limit, OpRule, Violation, in_range
from openbpu.compiler.ops.site import Refused, Site
from openbpu.compiler.ops.tables import rescale_parts

_PAD_MODES: dict[str, Literal["edge", "reflect", "wrap"]] = {
    "edge": "edge",
    "reflect": "reflect",
    "wrap": "wrap",
}


def _lower_reshape(site: Site) -> None:
    site.emit("Reshape", site.target, x=source_codes(site))


def _lower_transpose(site: Site) -> None:
    perm = tuple(site.node.attrs.get("perm") or reversed(range(len(site.shape()))))
    site.emit("Transpose", site.target, x=source_codes(site), perm=tuple(int(p) for p in perm))


def _ints(site: Site, index: int) -> tuple[int, ...] | None:
    if not site.has(index):
        return None
    data = site.graph.const(site.node.inputs[index])
    if data is None:
        raise not_constant(site.graph, site.producers, site.node.inputs[index], "its input")
    return tuple(int(v) for v in data.reshape(-1))


def _lower_slice(site: Site) -> None:
    source, shape = source_codes(site), site.shape()
    starts_in, ends = _ints(site, 1) or (), _ints(site, 2) or ()
    axes = _ints(site, 3) or tuple(range(len(starts_in)))
    steps_in = _ints(site, 4) or (1,) * len(starts_in)
    starts, steps = [0] * len(shape), [1] * len(shape)
    for start, end, axis, step in zip(starts_in, ends, axes, steps_in, strict=True):
        picked = range(shape[axis])[
            slice(start, end if not (step < 0 and end < -shape[axis]) else None, step)
        ]
        starts[axis], steps[axis] = (picked[0] if len(picked) else 0), step
    site.emit("Slice", site.target, x=source, starts=tuple(starts), steps=tuple(steps))


def _lower_split(site: Site) -> None:
    source = source_codes(site)
    rank = len(site.shape())
    axis = int(site.node.attrs.get("axis", 0)) % rank
    start = 0
    quant = site.rw.values[source].quant
    for out in site.node.outputs:
        size = site.shape_of(out)[axis]
        starts = tuple(start if i == axis else 0 for i in range(rank))
        if quant is not None:
            site.rw.set_quant(out, quant)
        site.rw.bpu("Slice", out, site.origins, x=source, starts=starts, steps=(1,) * rank)
        start += size


def _lower_expand(site: Site) -> None:
    site.emit("Expand", site.target, x=source_codes(site))


def _lower_tile(site: Site) -> None:
    """Tile as Reshape [1, d] → Expand [r, d] → Reshape, axis by axis in one go."""
    source, shape = source_codes(site), site.shape()
    repeats = _ints(site, 1) or (1,) * len(shape)
    split = tuple(v for d in shape for v in (1, d))
    spread = tuple(v for r, d in zip(repeats, shape, strict=True) for v in (r, d))
    a, b = intermediate(site, "split", split), intermediate(site, "spread", spread)
    site.emit("Reshape", a, x=source)
    site.emit("Expand", b, x=a)
    site.emit("Reshape", site.target, x=b)


def _lower_gather(site: Site) -> None:
    source, shape = source_codes(site), site.shape()
    axis = int(site.node.attrs.get("axis", 0)) % len(shape)
    data = site.graph.const(site.node.inputs[1])
    if data is None:
        raise not_constant(site.graph, site.producers, site.node.inputs[1], "its indices")
    index = np.where(data < 0, data + shape[axis], data).astype(np.int32).reshape(-1)
    if index.size == 0 or index.min() < 0 or index.max() >= shape[axis]:
        raise Refused(f"its indices leave the axis of {shape[axis]}", "check the indices")
    gather_axis(site, source, site.target, axis, index)


def _lower_pad(site: Site) -> None:
    mode = site.node.attrs.get("mode", "constant")
    leaf = site.leaf_or_none(site.node.inputs[0])
    on_grid = site.out is None or mode != "constant" or leaf is None or not leaf.scaling.per_tensor
    source, shape = source_codes(site) if on_grid else _rescaled(site), site.shape()
    amounts = _ints(site, 1) or tuple(site.node.attrs.get("pads", ()))
    axes = _ints(site, 3) or tuple(range(len(shape)))
    before, after = [0] * len(shape), [0] * len(shape)
    for i, axis in enumerate(axes):
        before[axis], after[axis] = amounts[i], amounts[len(axes) + i]
    if mode != "constant" or min(before + after, default=0) < 0:
        _pad_by_gather(site, source, before, after, mode)
        return
    value = site.graph.const(site.node.inputs[2]) if site.has(2) else np.zeros(())
    if value is None:
        raise not_constant(site.graph, site.producers, site.node.inputs[2], "its pad value")
    code = int(value.reshape(())) if on_grid else _code_of(site, value)
    site.emit("Pad", site.target, x=source, before=tuple(before), after=tuple(after), value=code)


def _rescaled(site: Site) -> str:
    """Input 0 on the grid of the result, whose codes the pad value has one of."""
    leaf, out = site.leaf(0), site.out_quant()
    site.rw.set_quant(site.target, site.quant())
    if leaf.scaling.same(out):
        return leaf.codes
    made = site.rw.value(f"{site.target}/rescaled", leaf.shape, out.dtype, site.quant())
    info = np.iinfo(out.dtype)
    site.emit("Rescale", made, **rescale_parts(leaf, out, (int(info.min), int(info.max))))
    return made


def _code_of(site: Site, value: Array) -> int:
    out = site.out_quant()
    if np.isnan(value).any():
        raise Refused("its pad value is NaN", "check the export of the model")
    return int(numerics.quantize(value.reshape(()).astype(np.float32), out.s, out.z, DType(out.dtype)))


def _pad_by_gather(site: Site, source: str, before: list[int], after: list[int], mode: str) -> None:
    shape = list(site.shape())
    todo = [a for a in range(len(shape)) if before[a] or after[a]]
    if mode == "constant":
        raise Refused("negative pads", CROP)
    if mode not in _PAD_MODES:
        raise Refused(f"mode {mode} is unknown", "use constant, edge, reflect or wrap")
    for axis in todo:
        widths = (max(before[axis], 0), max(after[axis], 0))
        pattern = np.pad(np.arange(shape[axis]), widths, mode=_PAD_MODES[mode])
        pattern = pattern[max(-before[axis], 0) : pattern.size - max(-after[axis], 0)]
        shape[axis] = pattern.size
        target = site.target if axis == todo[-1] else intermediate(site, f"pad{axis}", tuple(shape))
        gather_axis(site, source, target, axis, pattern.astype(np.int32))
        source = target
    if not todo:
        site.emit("Reshape", site.target, x=source)


def _lower_depth_to_space(site: Site) -> None:
    source, (n, c, h, w) = source_codes(site), site.shape()
    b = int(site.node.attrs["blocksize"])
    d = c // (b * b)
    crd = site.node.attrs.get("mode", "DCR") == "CRD"
    # On NHWC: channels split into (b1, b2, d) for DCR and (d, b1, b2) for CRD.
    x = intermediate(site, "nhwc", (n, h, w, c))
    split = intermediate(site, "split", (n, h, w, d, b, b) if crd else (n, h, w, b, b, d))
    perm = (0, 1, 4, 2, 5, 3) if crd else (0, 1, 3, 2, 4, 5)
    mixed = intermediate(site, "mixed", (n, h, b, w, b, d))
    y = intermediate(site, "y", (n, h * b, w * b, d))
    site.emit("Transpose", x, x=source, perm=(0, 2, 3, 1))
    site.emit("Reshape", split, x=x)
    site.emit("Transpose", mixed, x=split, perm=perm)
    site.emit("Reshape", y, x=mixed)
    site.emit("Transpose", site.target, x=y, perm=(0, 3, 1, 2))


def _lower_space_to_depth(site: Site) -> None:
    source, (n, c, h, w) = source_codes(site), site.shape()
    b = int(site.node.attrs["blocksize"])
    crd = site.node.attrs.get("mode", "DCR") == "CRD"  # opset 28 has it for this operator as well
    perm = (0, 1, 3, 5, 2, 4) if crd else (0, 1, 3, 2, 4, 5)
    x = intermediate(site, "nhwc", (n, h, w, c))
    split = intermediate(site, "split", (n, h // b, b, w // b, b, c))
    mixed = intermediate(site, "mixed", (n, h // b, w // b, c, b, b) if crd else (n, h // b, w // b, b, b, c))
    y = intermediate(site, "y", (n, h // b, w // b, b * b * c))
    site.emit("Transpose", x, x=source, perm=(0, 2, 3, 1))
    site.emit("Reshape", split, x=x)
    site.emit("Transpose", mixed, x=split, perm=perm)
    site.emit("Reshape", y, x=mixed)
    site.emit("Transpose", site.target, x=y, perm=(0, 3, 1, 2))


def _index(site: Site) -> Violation:
    return in_range(site.shape()[int(site.node.attrs.get("axis", 0))] - 1, 0, site.limit("gather_index_max"))


_DTYPES = "int8, int16, int32; scale and bits kept"


def _rule(op: str, engine: str, lower: Callable[[Site], None], *limits: Limit, note: str = "") -> OpRule:
    return OpRule(op, engine, _DTYPES, lower, limits, clamps=False, note=note)


RULES = (
    _rule("Reshape", "-", _lower_reshape, note="free: no data moves"),
    _rule("Flatten", "-", _lower_reshape, note="free"),
    _rule("Squeeze", "-", _lower_reshape, note="free"),
    _rule("Unsqueeze", "-", _lower_reshape, note="free"),
    _rule("Identity", "-", _lower_reshape, note="free"),
    _rule("Transpose", "TRANS", _lower_transpose),
    _rule("Slice", "TRANS", _lower_slice, note="constant bounds"),
    _rule("Split", "TRANS", _lower_split),
    _rule("Expand", "TRANS", _lower_expand, note="constant shape"),
    _rule("Tile", "TRANS", _lower_tile, note="constant repeats"),
    _rule(
        "Gather",
        "TRANS",
        _lower_gather,
        Limit("indices must be at most {gather_index_max}", _index, TABLE),
        note="constant indices",
    ),
    _rule("Pad", "TRANS", _lower_pad, note="constant, edge, reflect, wrap; constant amounts"),
    _rule("DepthToSpace", "TRANS", _lower_depth_to_space),
    _rule("SpaceToDepth", "TRANS", _lower_space_to_depth),
    OpRule(
        "Resize",
        "AAE",
        "int8, int16 → int8, int16",
        lower_resize,
        RESIZE_LIMITS,
        note="nearest (exact) and linear (±1 step) over the spatial axes, one to three",
    ),
)


_WALK = "shape strides offset"


@form(None, "x", op="Reshape")
def _reshape(b: Builder, node: Node) -> None:
    b.view(node.outputs[0], operand(node, "x"))


@form(Move, "x", op="Transpose", geometry=_WALK, extra="perm")
def _transpose(b: Builder, node: Node) -> None:
    strides = dense_strides(b.shape(operand(node, "x")))
    _move(b, node, tuple(strides[i] for i in node.attrs["perm"]))


@form(Move, "x", op="Slice", geometry=_WALK, extra="starts steps")
def _slice(b: Builder, node: Node) -> None:
    starts, steps = node.attrs["starts"], node.attrs["steps"]
    strides = dense_strides(b.shape(operand(node, "x")))
    offset = sum(s * start for s, start in zip(strides, starts, strict=True))
    _move(b, node, tuple(s * step for s, step in zip(strides, steps, strict=True)), offset)


@form(Move, "x", op="Expand", geometry=_WALK)
def _expand(b: Builder, node: Node) -> None:
    _move(b, node, broadcast_strides(b.shape(operand(node, "x")), b.shape(node.outputs[0])))


def _move(b: Builder, node: Node, strides: Ints, offset: int = 0) -> None:
    target = node.outputs[0]
    b.push_move(operand(node, "x"), target, b.shape(target), strides, offset)


@form(Pad, "x", geometry="shape")
def _pad(b: Builder, node: Node) -> None:
    b.push(node, shape=b.shape(operand(node, "x")))


@form(Gather, "x indices", geometry="shape", extra="axis")
def _gather(b: Builder, node: Node) -> None:
    b.push(node, shape=around(b.shape(operand(node, "x")), node.attrs["axis"]))
