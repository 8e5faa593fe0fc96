"""Resize: nearest as gathers along each axis (exact), linear over spatial axes with weights of 30 bits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.program import Resize
from openbpu.compiler.ir import Node, Quant
from openbpu.compiler.ir.dialect import Builder, form, operand
from openbpu.compiler.ir.qdq import Scaling
from openbpu.compiler.ops.advice import not_constant
from openbpu.compiler.ops.layout import from_nhwc, to_last, to_nhwc
from openbpu.compiler.ops.moving import gather_axis, intermediate, source_codes
from openbpu.compiler.ops.pieces import viewed
from openbpu.compiler.ops.rule import Limit, Violation
from openbpu.compiler.ops.site import Leaf, Refused, Site

_UNIT = 2.0**numerics.BETWEEN_BITS
_Table = npt.NDArray[np.int32]
_STILL: _Table = np.array([[0, 0, 0]], np.int32)


def _factors(site: Site) -> tuple[float, ...]:
    """Scale of every axis: as given, or output size / input size."""
    shape, out = site.shape(), site.out_shape()
    axes = site.node.attrs.get("axes")
    if site.has(3) or not site.has(2):
        if site.node.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise Refused("keep_aspect_ratio_policy is not stretch", "give the sizes outright")
        return tuple(o / i for o, i in zip(out, shape, strict=True))
    scales = site.graph.const(site.node.inputs[2])
    if scales is None:
        raise not_constant(site.graph, site.producers, site.node.inputs[2], "its tensor of scales")
    given = [float(s) for s in scales.reshape(-1)]
    if not given:
        return tuple(o / i for o, i in zip(out, shape, strict=True))
    if axes is None:
        return tuple(given)
    full = [1.0] * len(shape)
    for axis, scale in zip(axes, given, strict=True):
        full[axis % len(shape)] = scale
    return tuple(full)


def _source_positions(
    site: Site, size: int, out: int, scale: float, kind: npt.DTypeLike
) -> npt.NDArray[np.floating]:
    """Position in the input of every output element along one axis, by coordinate_transformation_mode.

    kind: float32 is what ONNX Runtime computes in: 3 / 0.6 is 5 there, and nearest depends on it. What lies
    between two elements takes float64: an error of 2^-24 at column 1000 is two steps of int16.
    """
    mode = site.node.attrs.get("coordinate_transformation_mode", "half_pixel")
    i = np.arange(out, dtype=kind)
    step, half = np.asarray(scale, kind), np.asarray(0.5, kind)
    if out == 1 and mode in ("pytorch_half_pixel", "align_corners"):
        return np.zeros(1, kind)
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return np.asarray((i + half) / step - half)
    if mode == "asymmetric":
        return np.asarray(i / step)
    if mode == "align_corners":
        return (i * (size - 1) / (out - 1)).astype(kind)
    if mode == "half_pixel_symmetric":
        adjustment = out / (step * size)
        centre = size / 2
        return np.asarray(centre * (1 - adjustment) + (i + half) / step - half)
    raise Refused(f"coordinate_transformation_mode {mode} is not supported", "use half_pixel or asymmetric")


def lower_resize(site: Site) -> None:
    """Lower nearest or linear; refuses cubic."""
    if int(site.node.attrs.get("antialias", 0)):
        raise Refused("antialias is not supported", "smooth with a convolution first")
    mode = site.node.attrs.get("mode", "nearest")
    if mode == "nearest":
        _lower_nearest(site)
    elif mode == "linear":
        _lower_linear(site)
    else:
        raise Refused(f"mode {mode} is not supported (nearest, linear)", "use linear")


def _lower_nearest(site: Site) -> None:
    """Nearest on codes: one gather per axis that changes; floats must have been turned to codes before."""
    name = source_codes(site)
    shape, out, factors = site.shape(), site.out_shape(), _factors(site)
    changed = [a for a in range(len(shape)) if shape[a] != out[a] or factors[a] != 1]
    source, current = name, list(shape)
    if not changed:
        site.emit("Reshape", site.target, x=name)
    for axis in changed:
        index = _nearest_index(site, shape[axis], out[axis], factors[axis])
        current[axis] = out[axis]
        target = site.target if axis == changed[-1] else intermediate(site, f"axis{axis}", current)
        gather_axis(site, source, target, axis, index)
        source = target


def _nearest_index(site: Site, size: int, out: int, scale: float) -> npt.NDArray[np.int32]:
    x = _source_positions(site, size, out, scale, np.float32)
    mode = site.node.attrs.get("nearest_mode", "round_prefer_floor")
    pick = {
        "round_prefer_floor": np.ceil(x - 0.5),
        "round_prefer_ceil": np.floor(x + 0.5),
        "floor": np.floor(x),
        "ceil": np.ceil(x),
    }.get(mode)
    if pick is None:
        raise Refused(f"nearest_mode {mode} is unknown", "use round_prefer_floor or floor")
    index: npt.NDArray[np.int32] = np.clip(pick, 0, size - 1).astype(np.int32)
    return index


def _linear_table(site: Site, size: int, out: int, scale: float) -> npt.NDArray[np.int32]:
    x = np.clip(_source_positions(site, size, out, scale, np.float64), 0, size - 1)
    low = np.floor(x)
    parts = [low, np.minimum(low + 1, size - 1), numerics.weights(x - low)]
    return np.stack(parts, axis=1).astype(np.int32)


def _lower_linear(site: Site) -> None:
    x, shape, out_shape, factors = site.leaf(0), site.shape(), site.out_shape(), _factors(site)
    if len(shape) not in (3, 4, 5) or shape[:2] != out_shape[:2]:
        raise Refused(
            "linear Resize runs over the spatial axes of [N, C, L] to [N, C, D, H, W] only",
            "resize the spatial axes only",
        )
    _check_finer(site, x.s, numerics.MAX_FINER)
    parts = zip(shape[2:], out_shape[2:], factors[2:], strict=True)
    tables = [_linear_table(site, *part) for part in parts]
    goal = _Codes(site.out_quant(), site.bounds())
    if len(shape) < 5:
        rows = _STILL if len(shape) == 3 else tables[0]
        y = _between(site, to_nhwc(site, x.codes), x.scaling, (rows, tables[-1]), goal)
    else:
        y = _volume(site, x, tables, goal)
    site.rw.set_quant(site.target, site.quant())
    from_nhwc(site, y, site.target)


@dataclass(frozen=True, slots=True)
class _Codes:
    """Codes to be made: what they mean, and their bounds."""

    scaling: Scaling
    bounds: tuple[int, int]


def _volume(site: Site, x: Leaf, tables: list[_Table], goal: _Codes) -> str:
    """Resize [N, C, D, H, W]; where all three axes change, the depth comes first, and int16 between them."""
    last, (n, c, d, h, w) = to_last(site, x.codes), x.shape
    changes = [_moves(table, size) for table, size in zip(tables, x.shape[2:], strict=True)]
    if not changes[0]:
        images = viewed(site, last, (n * d, h, w, c))
        return _between(site, images, x.scaling, (tables[1], tables[2]), goal)
    deep = viewed(site, last, (n, d, h, w * c))
    if not changes[2]:
        return _between(site, deep, x.scaling, (tables[0], tables[1]), goal)
    inner = _inner(x)
    _check_finer(site, x.s, numerics.SLICE_ROOM[DType(site.out_dtype)] * x.s / inner.scaling.s)
    still = np.stack([np.arange(h), np.arange(h), np.zeros(h, np.int64)], axis=1).astype(np.int32)
    made = _between(site, deep, x.scaling, (tables[0], still), inner, "slices")
    images = viewed(site, made, (n * len(tables[0]), h, w, c))
    return _between(site, images, inner.scaling, (tables[1], tables[2]), goal)


def _moves(table: _Table, size: int) -> bool:
    """Whether a table is not that of an axis which stays as it is."""
    return len(table) != size or bool((table[:, 0] != np.arange(size)).any()) or bool(table[:, 2].any())


def _inner(x: Leaf) -> _Codes:
    """What is between the two parts: int16 with as many steps as fit, so of int8 a 128th of its step."""
    if x.dtype == "int16":
        return _Codes(x.scaling, (-32768, 32767))
    step = np.array([numerics.slice_step(x.s, DType.INT8)], np.float32)
    return _Codes(Scaling(step, np.zeros(1, np.int64), "int16"), (-32768, 32767))


def _check_finer(site: Site, scale: float, most: float) -> None:
    """Refuse a result that has so much finer steps that what is rounded in front of it would show."""
    ratio = scale / site.out_quant().s
    if ratio > most:
        raise Refused(
            f"the scale of its output must be at least 1/{most:.0f} of the scale of its input, not "
            f"1/{ratio:,.0f}",
            "quantize its output over its range",
        )


def _between(
    site: Site, x: str, given: Scaling, tables: tuple[_Table, _Table], goal: _Codes, stem: str = "nhwc"
) -> str:
    """Emit a Resize of the rows and columns of NHWC codes; returns what it makes."""
    rows, cols = tables
    n, _, _, c = site.rw.values[x].shape or ()
    info, out = np.iinfo(given.dtype), goal.scaling
    reach = max(info.max - given.z, given.z - info.min)
    fixed = numerics.fixed_point_sum((given.s / out.s / _UNIT,), (float(reach) * _UNIT,))
    low, high = goal.bounds
    y = site.rw.value(
        f"{site.target}/{stem}", (n, len(rows), len(cols), c), out.dtype, Quant((out.s,), out.z)
    )
    site.rw.bpu(
        "Resize",
        y,
        site.origins,
        site.node.name,
        x=x,
        rows=site.rw.constant(f"{site.target}/rows", rows),
        cols=site.rw.constant(f"{site.target}/cols", cols),
        x_zero=given.z,
        mult=fixed.multipliers[0].item(),
        shift=fixed.shift.item(),
        zero=out.z,
        lo=low,
        hi=high,
    )
    return y


def _powers_of_two(site: Site) -> Violation:
    odd = [f for f in _factors(site) if not math.log2(f).is_integer()]
    return f"{odd[0]:g}" if odd else None


RESIZE_LIMITS = (
    Limit("factors must be powers of two", _powers_of_two, "resize by 2, 4, …", when="resize_power_of_two"),
)


@form(Resize, "x rows cols", geometry="x_shape y_shape")
def _resize(b: Builder, node: Node) -> None:
    b.push(node, x_shape=b.shape(operand(node, "x")), y_shape=b.shape(node.outputs[0]))
